"""Several workers, seen as one service by who started them; real ones, which are killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tornado_members.handlers.base import Services
from tornado_members.monitoring.board import Board, OneProcess, Page, publishing
from tornado_members.monitoring.health import Finding, Report, State
from tornado_members.telemetry.metrics import Family, Histogram


def content(requests: int, *findings: Finding) -> dict[str, Any]:
    """What a worker writes."""
    times = Histogram()
    times.counts[0] = requests
    families = [
        Family("requests", "counter", "How many.").put(requests),
        Family("seconds", "histogram", "How long.").put(times),
        Family("in_flight", "gauge", "How many now.").put(1),
        Family("memory_bytes", "gauge", "How much.", merge="each").put(100),
    ]
    return {
        "at": time.monotonic(),
        "report": Report(findings).to_dict(),
        "families": [family.to_dict() for family in families],
    }


def numbers(board: Board) -> dict[str, float]:
    """Every metric of one value, and how many values the others have."""
    found = {}
    for family in board.collect():
        (value, *others) = family.values.values() or [0]
        if not isinstance(value, Histogram):
            found[family.name] = len(others) + 1 if family.merge == "each" else float(value)
        else:
            found[family.name] = value.count
    return found


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board()
    yield board
    board.close()


@pytest.fixture
def start() -> Iterator[Callable[[Page], int]]:
    """Starts a worker that counts as fast as it can; returns its process."""
    started = []
    tester = os.getpid()

    def start_one(page: Page) -> int:
        process = os.fork()
        if process == 0:
            try:
                number = 0
                while os.getppid() == tester:
                    number += 1
                    page.write(content(number))
            finally:
                os._exit(1)
        started.append(process)
        return process

    yield start_one
    for process in started:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_counters_never_go_back_while_workers_are_killed_and_replaced(
    board: Board, start: Callable[[Page], int]
) -> None:
    processes = {worker: start(board.add(worker)) for worker in ("1", "2")}
    before = seen = 0.0
    for number in range(12):
        until = time.monotonic() + 0.02
        while time.monotonic() < until or seen == before:
            found = numbers(board)
            seen = found.get("requests", 0)
            assert seen >= before
            assert found.get("seconds", 0) == seen
        before = seen
        worker = "12"[number % 2]
        os.kill(processes[worker], signal.SIGKILL)  # at any point of its writing
        os.waitid(os.P_PID, processes[worker], os.WEXITED | os.WNOWAIT)
        board.retire(worker)
        left = numbers(board)
        assert left["requests"] >= before
        assert left.get("in_flight", 0) <= 1  # of the one that is left
        processes[worker] = start(board.add(worker))


def test_a_page_is_gone_with_who_has_it() -> None:
    before = set(os.listdir("/proc/self/fd"))
    board = Board()
    page = board.add("1")
    assert os.fstat(page._file.fileno()).st_nlink == 0
    board.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_half_of_something_is_never_read() -> None:
    page = Page()
    assert page.read() is None
    page.write("first")
    page.write("second")
    os.pwrite(page._file.fileno(), b"broken off", (1 << 22) * (page._written % 2) + 16)
    assert page.read() == "first"
    page.close()


def test_a_worker_that_says_nothing_is_told_of() -> None:
    board = Board(clock=lambda: now)
    now = time.monotonic()
    well = Finding("mongodb", State.OK)
    pages = [board.add("1"), board.add("2")]
    for page in pages:
        page.write(content(1, well))
    assert board.report() == Report((well,))
    now += 6
    pages[1].write({**content(1, well), "at": now})
    assert board.report().status == "degraded"
    assert board.report().is_ready
    now += 6
    assert board.report().status == "unready"
    assert board.is_alive()
    now += 60
    assert not board.is_alive()
    board.close()


def test_one_worker_alone_is_degraded_and_all_together_unready(board: Board) -> None:
    pages = [board.add("1"), board.add("2")]
    assert not board.report().draining
    away = Finding("mongodb", State.UNREADY, "does not answer")
    pages[0].write(content(1, Finding("mongodb", State.OK)))
    pages[1].write(content(1, away))
    report = board.report()
    assert report.is_ready
    assert report.findings == (
        Finding("mongodb", State.DEGRADED, "for 1 of 2 workers: does not answer"),
    )
    pages[0].write(content(1, away))
    assert board.report() == Report((away,))
    assert not board.report().is_ready


def test_a_service_that_drains_is_not_ready_however_its_workers_are(board: Board) -> None:
    page = board.add("1")
    page.write(content(1, Finding("mongodb", State.OK)))
    assert board.report().is_ready
    board.draining = True
    assert board.report().status == "draining"
    assert not board.report().is_ready


def test_without_a_worker_nothing_is_ready(board: Board) -> None:
    assert not board.report().is_ready
    board.add("1")  # which has said nothing yet
    assert not board.report().is_ready


def test_the_service_itself_writes_what_it_would_say(
    services: Services, board: Board, io_loop: IOLoop
) -> None:
    async def publish() -> None:
        async with publishing(board.add("1"), services.health, services.metrics):
            pass

    services.requests.observe("/members", "GET", 200, 0.01)
    io_loop.run_sync(publish)
    alone = OneProcess(services.health, services.metrics)
    assert board.report() == alone.report()
    assert [(f.name, f.labels, f.kind) for f in board.collect()] == [
        (f.name, f.labels, f.kind) for f in alone.collect()
    ]
    assert numbers(board)["members_http_requests"] == 1
    board.retire("1")
    assert numbers(board)["members_http_requests"] == 1
