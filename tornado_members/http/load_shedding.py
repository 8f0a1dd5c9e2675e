"""Refuses requests while the accepted ones wait too long, after CoDel (RFC 8289).

A fixed number of requests does not distinguish a burst, which is over soon, from an overload. CoDel
measures how long requests wait: if every wait of an *interval* is above a *target*, a queue does
not become empty. A request waits in two places. Both waits are measured once per turn of the event
loop, and added up:

- for the event loop, each time it is ready to continue: an uncached read takes about ten turns;
- for a thread or a connection of MongoDB's driver.

CoDel drops packets at a slowly rising rate, because their senders slow down. HTTP clients do not,
so all new requests are refused here while the wait is above the target.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

_TARGET: Final = 0.15  # seconds
_TURNS: Final = 10  # that a request waits for
_AVERAGED: Final = 2  # turns whose mean is taken. With more, a queue grows before it is noticed.
_INTERVAL: Final = 0.1  # seconds: about the time of a request under full load (RFC 8289 §3.2)
_RECOVERY: Final = 1.0  # seconds below the target until another burst has an interval again
_MIN_IN_FLIGHT: Final = 100  # requests in flight. Fewer do not form a queue.


class Requests(Protocol):
    """The requests of this process."""

    in_flight: int


class LoadShedder:
    """Measures waits, and decides which requests to refuse."""

    def __init__(
        self,
        requests: Requests,
        database_wait: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`database_wait` returns how long the last operation has waited, in seconds."""
        self.refused = 0  # requests
        self.is_shedding = False
        self._requests = requests
        self._database_wait = database_wait
        self._clock = clock
        self._is_above = False  # whether the last wait was above the target
        self._since = clock()  # when that began
        self._turns: deque[float] = deque(maxlen=_AVERAGED)  # their seconds
        self._is_measuring = False

    def refuses(self) -> bool:
        """Return True if a new request must be refused. Measures how long it waits.

        Nothing is measured for few requests, which do not form a queue.
        """
        if self._requests.in_flight < _MIN_IN_FLIGHT:
            self._turns.clear()
            if self._is_above or self.is_shedding:
                self.observe(0.0)
            return False
        if not self._is_measuring:
            self._is_measuring = True
            asyncio.get_running_loop().call_soon(self._measure, self._clock())
        return self.is_shedding and self._is_above

    def observe(self, wait: float) -> None:
        """Add a measured wait, in seconds.

        Shedding begins when all waits of an interval were above the target. It ends when all waits
        of a longer time were below it: until then, one wait above it is enough to refuse.
        """
        now = self._clock()
        is_above = wait > _TARGET and self._requests.in_flight >= _MIN_IN_FLIGHT
        if is_above != self._is_above:
            self._is_above, self._since = is_above, now
        elif is_above:
            self.is_shedding = self.is_shedding or now - self._since >= _INTERVAL
        elif now - self._since >= _RECOVERY:
            self.is_shedding = False

    def _measure(self, begun: float) -> None:
        self._is_measuring = False
        self._turns.append(self._clock() - begun)
        self.observe(sum(self._turns) / _AVERAGED * _TURNS + self._database_wait())
