"""The pace of a client: deadlines, rates, and disconnecting clients that are too slow."""

from http import HTTPStatus
from logging import getLogger
from math import inf

from tornado_members.http1.connection_base import ConnectionBase
from tornado_members.http1.exchange import PENDING
from tornado_members.http1.refusals import Refused
from tornado_members.http1.states import (
    AWAITS_CONTENT,
    BODY,
    DISCARDING,
    FLUSHING,
    HEAD,
    IDLE,
    LINGERING,
    OPENING,
    RESPONDING,
)

log = getLogger(__name__)


class PacedConnection(ConnectionBase):
    """The side of a connection by which the server bounds time and memory."""

    @property
    def idle_since(self) -> float:
        """The time since which the connection is idle, by the loop's clock; inf if it is not."""
        if self.state is not IDLE or not self._reader.is_blank:
            return inf
        return self.deadline - self._limits.idle_seconds

    @property
    def buffered(self) -> int:
        """The number of received bytes that wait to be parsed."""
        return self._reader.buffered

    def rate(self, now: float, settled_seconds: float) -> float | None:
        """Return the client's rate of sending or reading, in bytes per second.

        None if the server does not wait for the client, or for less than `settled_seconds`.
        """
        if self.state in (OPENING, LINGERING) and not self.writer.paused:
            return 0.0 if now - self._entered_at >= settled_seconds else None
        if self.writer.paused:
            return self.writer.rate(now, settled_seconds)
        if self.state is HEAD:
            seconds = now - (self.deadline - self._limits.head_seconds)
            return self._reader.buffered / seconds if seconds >= settled_seconds else None
        if self.state is DISCARDING and self._body_timer is not None:
            return self._body_timer.rate(now, settled_seconds)
        return self.body_rate(now, settled_seconds)

    def body_rate(self, now: float, settled_seconds: float) -> float | None:
        """Return the same for a body that the application will receive."""
        if self.state is not BODY or self._body_timer is None:
            return None
        return self._body_timer.rate(now, settled_seconds)

    # asyncio calls these.

    def expire(self, now: float) -> None:
        """End the connection, or its request, if a deadline has passed."""
        # Many clients send all of their body before they read. It has a deadline of its own.
        reads_too_slowly = now >= self.writer.deadline and self.writer.reads_too_slowly(now)
        if reads_too_slowly and self.state not in AWAITS_CONTENT:
            log.info("%s reads its response too slowly", self.peer)
            self.abort()
        elif now < self.deadline:
            return
        elif self.state in (HEAD, BODY):
            self.refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive."))
        elif self.state is IDLE:
            self.close()
        elif self.state in (RESPONDING, FLUSHING) and self._has_response_started:
            self.deadline = inf  # the writer detects if the client has disconnected
        else:
            self.abort()

    @property
    def _has_response_started(self) -> bool:
        return self.exchange is not None and self.exchange.response is not PENDING

    def drain(self) -> None:
        """Close the connection if it is idle. Others close after their response."""
        if self.state is IDLE and self._reader.is_blank:
            self.close()

    def evict(self) -> None:
        """Close the connection of a slow client, so that another client can have one."""
        log.info("%s is too slow; closed to make room for another client", self.peer)
        if self.state in (HEAD, BODY) and not self.writer.paused:
            self.refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The request arrives too slowly."))
            self.close()  # without waiting for the rest of the request
        else:
            self.abort()

    def abort_slow_reader(self) -> None:
        """Close the connection at once, and free the memory of its unread response."""
        log.info("%s is closed: its unread response takes too much memory", self.peer)
        self.abort()
        self.writer.lose(None)  # now, and not when the loop calls `connection_lost`
