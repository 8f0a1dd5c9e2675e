"""A line of log and a count for each request, and how many are under way."""

import asyncio
import logging
from logging import getLogger

from tornado_members.telemetry.lines import RequestLines
from tornado_members.telemetry.logs import REQUESTS, fields, json_stream
from tornado_members.telemetry.measures import Histogram
from tornado_members.telemetry.told import Told, said_of, words_of

log = getLogger(REQUESTS)

# A label has few values, whatever clients think of.
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})


class RequestLog:
    """What became of every request."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.idle = asyncio.Event()  # set while none is
        self.idle.set()
        # By route, method and status: how many, and how long they took.
        self.times: dict[tuple[str, str, int], Histogram] = {}
        stream = json_stream()
        self._lines = RequestLines(stream) if stream else None

    def begun(self) -> None:
        """A request has come."""
        self.in_flight += 1
        self.idle.clear()

    def ended(self) -> None:
        """Its answer has left, or can never leave."""
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()

    def tell(self, told: Told) -> None:
        """Count a request that was answered, and write its line."""
        self.count(told.route, told.method, told.status, told.seconds)
        level = logging.WARNING if told.status >= 500 else logging.INFO
        if log.isEnabledFor(level):
            if self._lines:
                self._lines.write(told, level)
            else:
                _log(told, level)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one that was answered."""
        times = self.times.get((route, method, status))
        if times is None:
            known = method if method in _METHODS else "other"
            times = self.times.setdefault((route, known, status), Histogram())
        times.observe(seconds)


def _log(told: Told, level: int) -> None:
    """As log.log() would, but for looking up from where it is called."""
    said = fields(**said_of(told))
    log.handle(log.makeRecord(REQUESTS, level, "", 0, "%s", (words_of(told),), None, None, said))
