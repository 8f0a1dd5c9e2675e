"""The ticks of periodic tasks."""

import os

import pytest

from tornado_members.ticks import TICK, seconds_to_tick


@pytest.mark.parametrize("ticks", [1, 4])
def test_ticks_are_the_same_for_all_tasks_and_never_missed(ticks: int) -> None:
    now, every = 1000.3, TICK * ticks
    first = now + seconds_to_tick(now, ticks)
    for _ in range(50):
        left = seconds_to_tick(now, ticks)
        assert every * 0.09 < left < every * 1.11
        assert (now + left - first) % TICK == pytest.approx(0, abs=1e-6) or (
            now + left - first
        ) % TICK == pytest.approx(TICK, abs=1e-6)
        now += left + 0.01 * every  # a task that takes some time keeps its ticks


def test_timer_that_is_early_does_not_run_twice_for_one_tick() -> None:
    due = 1000.0 + seconds_to_tick(1000.0)
    assert seconds_to_tick(due - 0.001) == pytest.approx(TICK + 0.001)


def test_processes_have_different_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    phases = set()
    for pid in range(700, 704):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        phases.add(round((1000 + seconds_to_tick(1000.0)) % TICK, 3))
    assert len(phases) == 4
    assert min(b - a for a, b in zip(sorted(phases), sorted(phases)[1:], strict=False)) > 0.05
