"""Callbacks of the service that occupy the event loop for too long.

asyncio's own figure (`slow_callback_duration`) is wall-clock time, which depends on the other load
of the machine. This is processor time of the loop's thread, without that of garbage collection:
the heap of a test run is much larger than that of a service.

A host that takes the processor from a virtual machine counts as processor time there, too. So a
test in which a callback was slow runs again, and fails only if a callback is slow each time.
"""

import asyncio
import gc
import time
from asyncio.events import Handle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from threading import get_ident
from types import CodeType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

MOST_SECONDS = 0.020
_SAMPLE_SECONDS = 0.001
_RUNS = 3  # of a test in which a callback is slow
_RUNS_LEFT = pytest.StashKey[int]()
_WAS_SLOW = pytest.StashKey[bool]()


class SlowCallbacks:
    """Collects descriptions of slow callbacks while `watching`, except those of uvloop."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._collecting = 0.0  # seconds of garbage collection so far
        self._collection_began = 0.0
        self._thread = 0  # of the last sample
        self._sampled_at = float("-inf")  # by the clock
        self._used = 0.0  # processor time then, without garbage collection

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch all event loops of this process."""
        run = Handle._run

        def measured_run(handle: Handle) -> None:
            owner = _owner(handle._callback)  # type: ignore[attr-defined]
            began = time.perf_counter()
            if began - self._sampled_at > _SAMPLE_SECONDS or get_ident() != self._thread:
                self._sample(began)
            run(handle)
            if time.perf_counter() - began > MOST_SECONDS and owner:
                seconds = time.thread_time() - self._collecting - self._used
                if seconds > MOST_SECONDS:
                    self.found.append(f"{seconds * 1000:.0f} ms: {owner}")

        gc.callbacks.append(self._note_collection)
        Handle._run = measured_run  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            Handle._run = run  # type: ignore[method-assign]
            gc.callbacks.remove(self._note_collection)

    def _sample(self, now: float) -> None:
        """Read the processor time before a callback.

        That takes longer than most callbacks do. So callbacks that begin within a millisecond share
        a sample, and the time of one counts up to a millisecond of the others.
        """
        self._thread, self._sampled_at = get_ident(), now
        self._used = time.thread_time() - self._collecting

    def _note_collection(self, phase: str, _info: Any) -> None:
        if phase == "start":
            self._collection_began = time.thread_time()
        else:
            self._collecting += time.thread_time() - self._collection_began


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test, and again if a callback was slow. A test that fails is not repeated."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for runs_left in reversed(range(_RUNS)):
        item.stash[_RUNS_LEFT] = runs_left
        item.stash[_WAS_SLOW] = False
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if not item.stash[_WAS_SLOW] or any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture(scope="session")
def slow_callbacks() -> Iterator[SlowCallbacks]:
    """Watch the event loops of all tests of this process."""
    slow = SlowCallbacks()
    with slow.watching():
        yield slow


@pytest.fixture(autouse=True)
def quick_callbacks(
    slow_callbacks: SlowCallbacks, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Fail a test in which a callback of the service occupies the event loop for too long."""
    slow_callbacks.found.clear()
    yield
    if slow_callbacks.found and request.node.get_closest_marker("slow_callbacks") is None:
        request.node.stash[_WAS_SLOW] = True
        found = ", ".join(slow_callbacks.found)
        assert request.node.stash[_RUNS_LEFT], f"callbacks occupied the event loop: {found}"


def _owner(callback: Any) -> str:
    """Return the function that runs in a callback; empty if it is not the service's."""
    while isinstance(callback, partial):
        callback = callback.func
    bound = getattr(callback, "__self__", None)
    if isinstance(bound, asyncio.Task):
        return _owner_of_task(bound)
    protocol = getattr(bound, "_protocol", None)  # of a transport
    for part in (protocol, bound):
        if part is not None and type(part).__module__.startswith("tornado_members."):
            return f"{type(part).__qualname__}.{getattr(callback, '__name__', '')}"
    if str(getattr(callback, "__module__", "")).startswith("tornado_members."):
        return str(getattr(callback, "__qualname__", callback))
    return ""


def _owner_of_task(task: "asyncio.Task[Any]") -> str:
    coroutine: Any = task.get_coro()
    code = getattr(coroutine, "cr_code", None)
    if code is None:
        return ""
    name = _name_of_code(code)
    if name == "RequestHandler._execute":
        frame = coroutine.cr_frame
        handler = type(frame.f_locals["self"]) if frame else None
        is_ours = handler is not None and handler.__module__.startswith("tornado_members.")
        return f"{handler.__qualname__} (of a request)" if handler and is_ours else ""
    return name


@cache
def _name_of_code(code: CodeType) -> str:
    """Return the name of a coroutine function; empty if it is not the service's or Tornado's."""
    name = code.co_qualname
    # A command such as `seed` has its event loop to itself.
    is_served = "/tornado_members/" in code.co_filename and "/commands/" not in code.co_filename
    return name if is_served or name == "RequestHandler._execute" else ""
