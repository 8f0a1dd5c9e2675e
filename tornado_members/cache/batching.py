"""Asking together, and never too late to be told the truth.

A reader may share a request only if it has *not been sent yet* when he comes. To join one that is
under way can hand him an answer that was overtaken by a write which was acknowledged before he
asked: a stale read without any fault of anybody's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
GetMany = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, bytes]]]


@dataclass(frozen=True, slots=True)
class _Appointed(Generic[T]):
    """What one who waited is told if the next request is his to make, and for whom."""

    sharers: "list[_Place[T]]"


_Place = asyncio.Future[T | _Appointed[T]]


class Turnstile(Generic[T]):
    """Of each key, at most one request is under way, and one waits, which newcomers share.

    So a stampede on a key costs two requests, and no answer is older than its question.
    """

    def __init__(self) -> None:
        self._under_way: dict[bytes, list[_Place[T]]] = {}  # and who waits for the next request

    async def ask(self, key: bytes, request: Callable[[], Awaitable[T]]) -> T:
        """What `request` answers, to oneself or to another one who asked the same."""
        waiting = self._under_way.get(key)
        if waiting is None:
            self._under_way[key] = []
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
        waiting = [place for place in unserved + self._under_way[key] if not place.done()]
        if waiting:
            self._under_way[key] = []
            waiting[0].set_result(_Appointed(waiting[1:]))
        else:
            del self._under_way[key]


class LoopTurn:
    """Reads of one turn of the event loop go out in one request, in the order of their keys."""

    def __init__(self, get_many: GetMany) -> None:
        self._get_many = get_many
        self._keys: dict[bytes, None] = {}
        self._waiting: list[asyncio.Future[Mapping[bytes, bytes]]] = []
        self._requests: set[asyncio.Task[None]] = set()

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The values of these keys, and perhaps of others. Raises what the request raises."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)
        self._keys.update(dict.fromkeys(keys))
        place: asyncio.Future[Mapping[bytes, bytes]] = loop.create_future()
        self._waiting.append(place)
        return await place

    def _send(self) -> None:
        request = asyncio.create_task(self._ask(list(self._keys), self._waiting))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        self._keys, self._waiting = {}, []

    async def _ask(
        self, keys: list[bytes], waiting: list[asyncio.Future[Mapping[bytes, bytes]]]
    ) -> None:
        try:
            found = await self._get_many(keys)
        except Exception as error:  # noqa: BLE001
            for place in waiting:
                if not place.done():
                    place.set_exception(error)
        else:
            for place in waiting:
                if not place.done():
                    place.set_result(found)
