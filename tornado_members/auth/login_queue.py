"""The order in which logins are hashed when more arrive than can be hashed.

Hashing takes about a tenth of a second, one login at a time. The login whose source made the fewest
attempts in the last minutes is served first. When the queue is full, the one whose source made the
most is refused. So sources are served in turn, and the number of requests that a source sends does
not delay the others. Refused attempts count as well.

A source is a network, or one user on a network where that user logged in recently. Recent users
have a queue of their own, which gets every second turn: a flood from many networks does not delay
them, and a flood by one of them takes at most half of the turns.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import NamedTuple

from tornado_members.errors import Overloaded

MAX_WAITING = 64  # in each of the two queues
_OLDEST_EVERY = 4  # turns, or new sources could make a frequent one wait forever
_MAX_SECONDS = 10  # that a login waits; its client has given up by then
_PERIOD_SECONDS = 60  # attempts count in the period in which they are made and in the next one
_MAX_SOURCES = 100_000  # counted per period; about 15 MB


class Source(NamedTuple):
    """The source of a login."""

    key: bytes
    is_recent: bool = False  # the user logged in from there recently


class LoginQueue:
    """Serves one login at a time."""

    def __init__(
        self, max_waiting: int = MAX_WAITING, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` returns seconds."""
        self._attempts = _RecentCounts(clock)
        self._arrivals = 0
        self._is_busy = False
        # The first of the two has the next turn.
        self._queues = (_Queue(max_waiting, clock), _Queue(max_waiting, clock))
        self._recent, self._others = self._queues

    @asynccontextmanager
    async def turn(self, source: Source) -> AsyncIterator[None]:
        """Wait for a turn. Raises Overloaded if the queue is full of less frequent sources."""
        self._arrivals += 1
        place = _Priority(self._attempts.add(source.key), self._arrivals)
        if self._is_busy:
            await self._wait(self._recent if source.is_recent else self._others, place)
        self._is_busy = True
        try:
            yield
        finally:
            self._release()

    async def _wait(self, queue: "_Queue", place: "_Priority") -> None:
        turn = queue.add(place)
        try:
            await turn
        except asyncio.CancelledError:
            queue.remove(place)
            if turn.done() and not turn.cancelled() and not turn.exception():
                self._release()  # it was this login's turn already
            raise

    def _release(self) -> None:
        """Give the turn to the next login."""
        first, second = self._queues
        self._queues = (second, first)
        self._is_busy = first.serve_next() or second.serve_next()


class _Priority(NamedTuple):
    """The priority of a login in the queue; the smallest is served first."""

    attempts: int
    arrival: int


class _Queue:
    """Logins that wait, by their places."""

    def __init__(self, max_waiting: int, clock: Callable[[], float]) -> None:
        self._max_waiting = max_waiting
        self._clock = clock
        self._turns = 0
        self._waiting: dict[_Priority, asyncio.Future[None]] = {}
        self._since: dict[_Priority, float] = {}

    def add(self, place: _Priority) -> "asyncio.Future[None]":
        """Return a future that is done when it is the login's turn, or is Overloaded."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[place] = turn
        self._since[place] = self._clock()
        if len(self._waiting) > self._max_waiting:
            self._refuse(max(self._waiting))
        return turn

    def remove(self, place: _Priority) -> None:
        """Remove a login that was cancelled."""
        self._waiting.pop(place, None)
        self._since.pop(place, None)

    def serve_next(self) -> bool:
        """Give the turn to a login; False if none is waiting."""
        too_old = self._clock() - _MAX_SECONDS
        for place in [place for place, since in self._since.items() if since < too_old]:
            self._refuse(place)
        while self._waiting:
            self._turns += 1
            is_oldest = self._turns % _OLDEST_EVERY == 0
            place = min(self._waiting, key=attrgetter("arrival") if is_oldest else None)
            turn = self._waiting.pop(place)
            del self._since[place]
            if not turn.done():  # else it was cancelled just now
                turn.set_result(None)
                return True
        return False

    def _refuse(self, place: _Priority) -> None:
        turn = self._waiting.pop(place)
        del self._since[place]
        if not turn.done():
            turn.set_exception(Overloaded())


class _RecentCounts:
    """Counts by source, over the current period and the one before."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._period = 0
        self._now: Counter[bytes] = Counter()
        self._before: Counter[bytes] = Counter()

    def add(self, key: bytes) -> int:
        """Count one attempt; returns how many there were before."""
        period = int(self._clock() // _PERIOD_SECONDS)
        if period != self._period:
            self._before = self._now if period == self._period + 1 else Counter()
            self._now, self._period = Counter(), period
        count = self._now[key] + self._before[key]
        if key in self._now or len(self._now) < _MAX_SOURCES:
            self._now[key] += 1
        return count
