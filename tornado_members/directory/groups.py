"""Groups of requests, which share what they send to MongoDB and Memcached.

A write alone costs a command and four requests to Memcached, and a page of a list costs a command.
So a process allows only a few groups under way. Requests that come meanwhile wait, and form the
next group when one of these has ended. While there are few requests, each begins at once, in a
group of its own.

A request never joins a group that has begun: its result may be older than the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Generic, TypeVar

from tornado_members.lease_cache.coalescing import fail_waiter

Q = TypeVar("Q")
A = TypeVar("A")


class Groups(Generic[Q, A]):
    """Forms groups of requests.

    `send_all` sends a group of at least two, and returns one result for each; None if that one
    must be sent alone. Its exceptions are raised by every request of the group.
    """

    def __init__(
        self,
        send_all: Callable[[Sequence[Q]], Awaitable[Sequence[A | None]]],
        *,
        most_under_way: int = 4,
        largest: int = 32,
        patience: float = 0.1,
    ) -> None:
        """`patience` is the time in seconds after which a group begins in any case.

        So a group that hangs delays no others.
        """
        self._send_all = send_all
        self._most_under_way = most_under_way
        self._largest = largest
        self._patience = patience
        self._under_way = 0
        self._waiting: list[tuple[Q, asyncio.Future[A | None]]] = []
        self._is_beginning = False  # the next group, in the next turn of the event loop
        self._late: asyncio.TimerHandle | None = None  # the next group, if none has ended before
        self._sending: set[asyncio.Task[None]] = set()

    async def join(self, item: Q) -> A | None:
        """Send a request in a group with others; None if it must be sent alone."""
        place: asyncio.Future[A | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, place))
        self._schedule()
        return await place

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Send a request alone in this block. It counts as a group."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._schedule()

    def _schedule(self) -> None:
        """Begin the next group in the next turn of the event loop, or after some time."""
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if self._under_way < self._most_under_way:
            if not self._is_beginning:
                self._is_beginning = True
                loop.call_soon(self._begin)
        elif self._late is None:
            self._late = loop.call_later(self._patience, self._begin)

    def _begin(self) -> None:
        self._is_beginning = False
        if self._late is not None:
            self._late.cancel()
            self._late = None
        waiting = [(item, place) for item, place in self._waiting if not place.done()]
        group, self._waiting = waiting[: self._largest], waiting[self._largest :]
        if len(group) == 1:
            group[0][1].set_result(None)
        elif group:
            # Without the context of one caller: all share it.
            task = asyncio.get_running_loop().create_task(self._send(group), context=Context())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._schedule()

    async def _send(self, group: Sequence[tuple[Q, asyncio.Future[A | None]]]) -> None:
        with self.alone():
            try:
                results = await self._send_all([item for item, _ in group])
            except BaseException as error:
                for _, place in group:
                    if not place.done():
                        fail_waiter(place, error)
                if not isinstance(error, Exception):
                    raise
                return
        for (_, place), result in zip(group, results, strict=True):
            if not place.done():
                place.set_result(result)
