"""Requests that callers share.

A caller may share a request only if it has *not been sent yet*. The response to a request in flight
may be older than a write that was acknowledged before the caller began: a stale read without any
fault.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Promotion(Generic[T]):
    """Makes a waiting caller send the next request, for itself and for the other waiters."""

    waiters: "list[_Waiter[T]]"


_Waiter = asyncio.Future[T | _Promotion[T]]


class SingleFlight(Generic[T]):
    """Allows one request per key in flight, and a next one, which new callers share.

    So a stampede on a key costs two requests, and no result is older than the call that returns it.
    """

    def __init__(self) -> None:
        # The keys with a request in flight, and the callers that wait for the next request.
        self.in_flight: dict[bytes, list[_Waiter[T]]] = {}

    async def run(self, key: bytes, request: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `request`, sent by this caller or by one that shares it."""
        waiting = self.in_flight.get(key)
        if waiting is None:
            self.in_flight[key] = []
            return await self._send(key, request, [])
        waiter: _Waiter[T] = asyncio.get_running_loop().create_future()
        waiting.append(waiter)
        try:
            outcome = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                outcome = waiter.result()
                if isinstance(outcome, _Promotion):
                    self._promote_next(key, outcome.waiters)
            raise
        if isinstance(outcome, _Promotion):
            return await self._send(key, request, outcome.waiters)
        return outcome

    @contextmanager
    def held(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Make new callers wait during the block, which requests these keys in another way.

        Keys that have a request in flight already are not affected.
        """
        free = [key for key in keys if key not in self.in_flight]
        self.in_flight.update((key, []) for key in free)
        try:
            yield
        finally:
            for key in free:
                self._promote_next(key, [])

    async def _send(
        self, key: bytes, request: Callable[[], Awaitable[T]], waiters: "list[_Waiter[T]]"
    ) -> T:
        try:
            result = await request()
        except asyncio.CancelledError:
            self._promote_next(key, waiters)  # one of them sends the request instead
            raise
        except BaseException as error:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
            self._promote_next(key, [])
            raise
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(result)
        self._promote_next(key, [])
        return result

    def _promote_next(self, key: bytes, unserved: "list[_Waiter[T]]") -> None:
        """Make the first waiter send the next request, for all of them."""
        waiting = [waiter for waiter in unserved + self.in_flight[key] if not waiter.done()]
        if waiting:
            self.in_flight[key] = []
            waiting[0].set_result(_Promotion(waiting[1:]))
        else:
            del self.in_flight[key]


class Batcher(Generic[Item, Result]):
    """Sends the items of one turn of the event loop together, in the next turn.

    `send` returns one result for each item, in their order. A batch is completed even if callers
    are cancelled. An exception of `send` is raised in each of them.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        in_turns: bool = False,
    ) -> None:
        """With `in_turns`, items that arrive while a batch is in flight are sent after it."""
        self._send = send
        self._turn = asyncio.Lock() if in_turns else nullcontext()
        self._waiting: list[tuple[Sequence[Item], asyncio.Future[Sequence[Result]]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, items: Sequence[Item]) -> Sequence[Result]:
        """Add items to the next batch; return their results."""
        loop = asyncio.get_running_loop()
        results: asyncio.Future[Sequence[Result]] = loop.create_future()
        self._waiting.append((items, results))
        if len(self._waiting) == 1:
            # In the next turn, and without the context of one caller: all share it.
            task = loop.create_task(self._run(), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await results

    async def _run(self) -> None:
        async with self._turn:
            await self._send_waiting()

    async def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            results = await self._send([item for items, _ in waiting for item in items])
        except BaseException as error:
            for _, waiter in waiting:
                if not waiter.done():
                    fail_waiter(waiter, error)
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for items, waiter in waiting:
            end = start + len(items)
            if not waiter.done():
                waiter.set_result(results[start:end])
            start = end


def fail_waiter(waiter: "asyncio.Future[Any]", error: BaseException) -> None:
    """Raise the exception in the caller that waits for the result of a shared request."""
    if isinstance(error, asyncio.CancelledError):
        waiter.cancel()
    else:
        waiter.set_exception(error)
