"""LoadShedder: the waits at which it refuses requests."""

import asyncio
import time

import pytest

from tornado_members.http.load_shedding import LoadShedder

LONG, SHORT = 5.0, 0.001  # waits in seconds


class Clock:
    """A clock that a test moves, and the number of requests in flight."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.in_flight = 500
        self.shedder = LoadShedder(self, lambda: 0.0, lambda: self.now)

    def observe(self, wait: float, seconds: float) -> bool:
        """Observe the same wait a hundred times within a time; return True if it refuses."""
        for _ in range(100):
            self.now += seconds / 100
            self.shedder.observe(wait)
        return self.shedder.is_shedding and self.shedder._is_above


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_burst_is_not_refused(clock: Clock) -> None:
    assert not clock.observe(SHORT, 10)
    assert not clock.observe(LONG, 0.09)
    assert not clock.observe(SHORT, 0.01)
    assert not clock.observe(LONG, 0.09)


def test_long_waits_of_a_whole_interval_are_refused(clock: Clock) -> None:
    assert clock.observe(LONG, 0.2)


def test_short_wait_ends_refusals_at_once(clock: Clock) -> None:
    assert clock.observe(LONG, 1)
    assert not clock.observe(SHORT, 0.001)


def test_later_long_wait_is_refused_without_an_interval_until_it_was_calm(clock: Clock) -> None:
    assert clock.observe(LONG, 1)
    assert not clock.observe(SHORT, 0.5)
    assert clock.observe(LONG, 0.001)
    assert not clock.observe(SHORT, 2)
    assert not clock.observe(LONG, 0.001)


def test_few_requests_are_never_refused_however_slow_they_are(clock: Clock) -> None:
    clock.in_flight = 31
    assert not clock.observe(LONG, 60)


async def test_busy_event_loop_is_measured_at_each_request() -> None:
    shedder = LoadShedder(Clock(), lambda: 0.0)

    async def turn() -> bool:
        refused = shedder.refuses()
        time.sleep(0.03)  # noqa: ASYNC251  # what else the loop has to do
        await asyncio.sleep(0)
        return refused

    turns = [await turn() for _ in range(20)]
    assert not any(turns[:3])  # less than an interval
    assert all(turns[-5:])


async def test_wait_for_the_database_is_measured() -> None:
    shedder = LoadShedder(Clock(), lambda: LONG)
    async with asyncio.timeout(60):
        while not shedder.refuses():
            await asyncio.sleep(0.01)


def test_refusals_end_once_few_requests_are_in_flight(clock: Clock) -> None:
    assert clock.observe(LONG, 1)
    clock.in_flight = 31
    assert not clock.shedder.refuses()
    assert clock.shedder.is_shedding
    clock.now += 2
    assert not clock.shedder.refuses()
    assert not clock.shedder.is_shedding
