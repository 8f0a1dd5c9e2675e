"""Requests that callers share.

A caller may share a request only if it has *not been sent yet*. The answer to a request that is
under way may be older than a write that was acknowledged before the caller asked: a stale read
without any fault.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class _Appointed(Generic[T]):
    """The result of a caller that has to make the next request, for the callers that share it."""

    sharers: "list[_Place[T]]"


_Place = asyncio.Future[T | _Appointed[T]]


class SingleFlight(Generic[T]):
    """Allows one request per key under way, and one that waits, which new callers share.

    So a stampede on a key costs two requests, and no answer is older than its question.
    """

    def __init__(self) -> None:
        # The keys whose request is under way, and the callers of the next one.
        self.under_way: dict[bytes, list[_Place[T]]] = {}

    async def ask(self, key: bytes, request: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of `request`, made by this caller or by one that shares it."""
        waiting = self.under_way.get(key)
        if waiting is None:
            self.under_way[key] = []
            return await self._request(key, request, [])
        place: _Place[T] = asyncio.get_running_loop().create_future()
        waiting.append(place)
        try:
            outcome = await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and not place.exception():
                outcome = place.result()
                if isinstance(outcome, _Appointed):
                    self._next(key, outcome.sharers)
            raise
        if isinstance(outcome, _Appointed):
            return await self._request(key, request, outcome.sharers)
        return outcome

    @contextmanager
    def held(self, keys: Sequence[bytes]) -> Iterator[None]:
        """Let new callers wait during the block, which asks for these keys in another way.

        Keys of which a request is under way already are left to that.
        """
        free = [key for key in keys if key not in self.under_way]
        self.under_way.update((key, []) for key in free)
        try:
            yield
        finally:
            for key in free:
                self._next(key, [])

    async def _request(
        self, key: bytes, request: Callable[[], Awaitable[T]], sharers: "list[_Place[T]]"
    ) -> T:
        try:
            result = await request()
        except asyncio.CancelledError:
            self._next(key, sharers)  # one of them asks instead
            raise
        except BaseException as error:
            for place in sharers:
                if not place.done():
                    place.set_exception(error)
            self._next(key, [])
            raise
        for place in sharers:
            if not place.done():
                place.set_result(result)
        self._next(key, [])
        return result

    def _next(self, key: bytes, unserved: "list[_Place[T]]") -> None:
        """Let the first of those who wait make the next request, for all of them."""
        waiting = [place for place in unserved + self.under_way[key] if not place.done()]
        if waiting:
            self.under_way[key] = []
            waiting[0].set_result(_Appointed(waiting[1:]))
        else:
            del self.under_way[key]


class Batcher(Generic[Q, A]):
    """Sends the requests of one turn of the event loop together, in the next turn.

    `ask_all` returns one result for each request, in their order. The request is completed even if
    callers are cancelled. An exception of `ask_all` is raised in each of them.
    """

    def __init__(
        self, ask_all: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, in_turns: bool = False
    ) -> None:
        """With `in_turns`, the requests made while others are under way are sent after those."""
        self._ask_all = ask_all
        self._turn = asyncio.Lock() if in_turns else nullcontext()
        self._waiting: list[tuple[Sequence[Q], asyncio.Future[Sequence[A]]]] = []
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, questions: Sequence[Q]) -> Sequence[A]:
        """Return the answers to these questions."""
        loop = asyncio.get_running_loop()
        answers: asyncio.Future[Sequence[A]] = loop.create_future()
        self._waiting.append((questions, answers))
        if len(self._waiting) == 1:
            # In the next turn, and without the context of one caller: all share it.
            asking = loop.create_task(self._ask(), context=Context())
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        return await answers

    async def _ask(self) -> None:
        async with self._turn:
            await self._ask_waiting()

    async def _ask_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            answers = await self._ask_all([one for questions, _ in waiting for one in questions])
        except BaseException as error:
            for _, place in waiting:
                if not place.done():
                    refuse(place, error)
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for questions, place in waiting:
            end = start + len(questions)
            if not place.done():
                place.set_result(answers[start:end])
            start = end


def refuse(place: "asyncio.Future[Any]", error: BaseException) -> None:
    """Raise the exception in the caller that waits for the result of a shared request."""
    if isinstance(error, asyncio.CancelledError):
        place.cancel()
    else:
        place.set_exception(error)
