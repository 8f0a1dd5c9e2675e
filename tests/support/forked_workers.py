"""Runs the tests in several processes: forks of the one process that has collected them.

A pytest plugin. Importing and collecting the suite takes seven seconds of processor time, which
pytest-xdist spends in each of its processes. A fork has all of it, and starts in milliseconds.

A pipe contains all tests, in chunks. A worker that has finished a chunk reads the next one. Workers
send the reports of their tests to the main process. That passes them to its other plugins, as if it
had run the tests itself.
"""

import ctypes
import os
import random
import signal
import struct
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Final, NoReturn

import pytest

WORKER: Final = "TESTS_WORKER"  # in the environment of a worker: its number, from 0

_CHUNK: Final = struct.Struct("II")  # the index of the first test, the number of tests
_MOST_PER_CHUNK: Final = 12  # tests of one module, which may share a fixture
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


@dataclass(slots=True)
class _Worker:
    pid: int
    messages: Connection
    running: str = ""  # the id of the test
    ended: int = 0  # tests


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option for the number of processes."""
    parser.addoption("--processes", type=int, default=0, help="number of processes that run tests")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in workers if `--processes` is set."""
    options = session.config.option
    if not options.processes or options.collectonly or session.testsfailed:
        return None  # pytest runs its own loop
    _run_in_workers(session, options.processes)
    return True


def _run_in_workers(session: pytest.Session, number: int) -> None:
    """Run all tests. Raises Session.Failed and Session.Interrupted, as pytest's own loop does."""
    assert threading.active_count() == 1, "a fork has only the thread that forks"
    queue, end = os.pipe()
    for first, count in _chunks(session.items, number):
        os.write(end, _CHUNK.pack(first, count))
    os.close(end)  # the workers end when the queue is empty
    workers: list[_Worker] = []
    try:
        for one in range(number):
            ours, theirs = Pipe(duplex=False)
            pid = os.fork()
            if not pid:
                for other in (ours, *(worker.messages for worker in workers)):
                    other.close()
                _become_worker(session, one, queue, theirs)
            theirs.close()
            workers.append(_Worker(pid, ours))
        _pass_reports_on(session, workers)
    finally:
        os.close(queue)
        _end(workers)


def _chunks(items: Sequence[pytest.Item], workers: int) -> Iterator[tuple[int, int]]:
    """Yield chunks of one module each. They become smaller, so that all workers end together.

    Modules at the top level of tests/, which are last in `items`, take longest and come first.
    Those without servers wait for nothing and come last: they occupy the processors while the last
    of the other tests wait.
    """
    remaining = len(items)
    indexes = reversed(range(remaining))
    modules = [sorted(group) for _, group in groupby(indexes, key=lambda index: items[index].path)]
    modules.sort(key=lambda module: not any(_uses_servers(items[index]) for index in module))
    for module in modules:
        first, end = module[0], module[-1] + 1
        while first < end:
            count = min(end - first, _MOST_PER_CHUNK, max(1, remaining // (4 * workers)))
            yield first, count
            first += count
            remaining -= count


def _uses_servers(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "servers" in item.fixturenames


def _pass_reports_on(session: pytest.Session, workers: Sequence[_Worker]) -> None:
    """Receive what the workers send until all have ended."""
    reporter: Any = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter:
        reporter.showfspath = False  # modules run side by side
    open_ones = {worker.messages: worker for worker in workers}
    while open_ones:
        for messages in wait(list(open_ones)):
            assert isinstance(messages, Connection)
            try:
                kind, content = messages.recv()
            except EOFError:
                died = open_ones.pop(messages)
                if died.running:
                    _report_death(session, died)
                continue
            _handle(session, open_ones[messages], kind, content)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    if missing := len(session.items) - sum(worker.ended for worker in workers):
        pytest.exit(f"{missing} tests did not run, as a process died", returncode=1)


def _handle(session: pytest.Session, worker: _Worker, kind: str, content: Any) -> None:
    hook = session.config.hook
    if kind == "start":
        worker.running = content
    elif kind == "finish":
        worker.running = ""
        worker.ended += 1
        nodeid, location = content
        hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)
    elif kind == "report":
        report = hook.pytest_report_from_serializable(config=session.config, data=content)
        hook.pytest_runtest_logreport(report=report)
    else:
        pytest.exit(f"a worker failed outside of tests:\n{content}", returncode=3)


def _report_death(session: pytest.Session, worker: _Worker) -> None:
    """Fail the test that a worker ran when it died."""
    location = (worker.running.partition("::")[0], None, worker.running)
    message = "The process of this test died."
    report = pytest.TestReport(worker.running, location, {}, "failed", message, "call")
    worker.ended += 1
    session.config.hook.pytest_runtest_logreport(report=report)


def _end(workers: Sequence[_Worker]) -> None:
    """Wait for the workers. Those that still run clean up and end."""
    for worker in workers:
        worker.messages.close()
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
    for worker in workers:
        os.waitpid(worker.pid, 0)


def _become_worker(
    session: pytest.Session, number: int, queue: int, messages: Connection
) -> NoReturn:
    """Run tests until the queue is empty, or until SIGTERM; clean up, and end the process."""
    reports = _Reports(session.config, messages)
    try:
        _separate(session.config, number)
        session.config.pluginmanager.register(reports)
        for item, next_item in _read(session.items, queue):
            reports.send("start", item.nodeid)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=next_item)
            reports.send("finish", (item.nodeid, item.location))
    except KeyboardInterrupt:
        session._setupstate.teardown_exact(None)
    except BaseException:  # noqa: BLE001  # the main process shows it
        reports.send("error", traceback.format_exc())
    finally:
        os._exit(0)


def _separate(config: pytest.Config, number: int) -> None:
    """Stop sharing signals, random numbers and output files with the main process."""
    os.environ[WORKER] = str(number)
    # Ctrl-C is for the main process only: a second signal would interrupt the cleaning up.
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, _interrupt)
    random.seed()
    plugins = config.pluginmanager
    plugins.unregister(plugins.getplugin("terminalreporter"))
    capture: Any = plugins.getplugin("capturemanager")
    capture.stop_global_capturing()  # its files have one position in all processes
    capture.start_global_capturing()
    capture.suspend_global_capture()


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _read(
    items: Sequence[pytest.Item], queue: int
) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """Yield each test of this worker and the one after it, which keeps the fixtures of both."""
    item = None
    while chunk := os.read(queue, _CHUNK.size):
        first, count = _CHUNK.unpack(chunk)
        for next_item in items[first : first + count]:
            if item:
                yield item, next_item
            item = next_item
    if item:
        yield item, None


class _Reports:
    """Sends the reports of a worker to the main process."""

    def __init__(self, config: pytest.Config, messages: Connection) -> None:
        self._config = config
        self._messages = messages

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        serialize = self._config.hook.pytest_report_to_serializable
        self.send("report", serialize(config=self._config, report=report))

    def send(self, kind: str, content: Any) -> None:
        """Send a message, unless the main process ends the run and reads no more."""
        with suppress(OSError):
            self._messages.send((kind, content))
