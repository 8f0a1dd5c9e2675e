"""One subscriber: its position in a buffer, and the response that it reads.

A subscription has no task and no queue. The reader that adds events to the buffer calls `pump`,
which writes as long as the client keeps up. The position does not advance while a piece is sent.
"""

import asyncio
import random
from asyncio import Future
from typing import Final, Protocol

from tornado_members.feed.cursors import Cursors
from tornado_members.feed.event_log import EventLog, PositionLost
from tornado_members.feed.events import KEEP_ALIVE, Format, notice, progress
from tornado_members.feed.metrics import FeedMetrics

KEEP_ALIVE_SECONDS: Final = 15.0
_PROGRESS_EVERY: Final = 20  # comments, after which an idle client receives its current cursor
_LEAST_RETRY_MS, _MOST_RETRY_MS = 100, 5000

_DETAILS: Final = {
    "ready": "The feed reports all changes from here on.",
    "lagging": "The client reads too slowly. Resume after the last id.",
    "expired": "The token has expired, or was revoked. Resume with a new one after the last id.",
}
# Reasons for which a client is to reconnect after a random time.
_RECONNECT: Final = frozenset({"displaced", "drain"})


class Sink(Protocol):
    """The response to which a subscription writes."""

    def send_events(self, data: bytes) -> "Future[None]":
        """Send a piece; the future is done when the system has taken it."""
        ...

    def end_events(self, reason: str) -> None:
        """Complete the response."""
        ...

    def abort_events(self, reason: str) -> None:
        """Close the connection of a client that does not read."""
        ...


class Owner(Protocol):
    """The reader that adds the events to the buffer of a subscription."""

    def on_idle(self, subscription: "Subscription") -> None:
        """Handle a subscription that has sent all events of the buffer."""
        ...

    def detach(self, subscription: "Subscription") -> None:
        """Remove a subscription that has ended, or has moved."""
        ...


class Subscription:
    """A client that follows the feed."""

    __slots__ = (
        *(
            "skip_until",
            "events",
            "has_ended",
            "is_idle",
            "member_ids",
            "owner",
            "position",
            "token",
        ),
        *(
            "_comments",
            "_form",
            "_has_started",
            "_is_writing",
            "_log",
            "_metrics",
            "_pause",
            "_cursors",
            "_sink",
        ),
        *("_with_member", "_written_at"),
    )

    def __init__(
        self,
        sink: Sink,
        cursors: Cursors,
        metrics: FeedMetrics,
        form: Format,
        *,
        with_member: bool = True,
        member_ids: frozenset[int] | None = None,
    ) -> None:
        """`member_ids` are the only members of interest, if there are any."""
        self.member_ids = member_ids
        self.owner: Owner | None = None
        self.position = 0  # in the buffer; not current while `is_idle`
        self.token = ""  # the resume token up to which everything was sent
        self.skip_until = ""  # events up to this resume token are left out
        self.is_idle = False
        self.has_ended = False
        self.events = 0  # that were sent
        self._log: EventLog | None = None
        self._sink = sink
        self._cursors = cursors
        self._metrics = metrics
        self._form = form
        self._has_started = False  # the sink takes nothing before
        self._with_member = with_member
        self._is_writing = False
        self._written_at = 0.0
        self._pause = KEEP_ALIVE_SECONDS * random.uniform(0.8, 1)  # noqa: S311  # jitter
        self._comments = 0

    def attach(self, owner: Owner, log: EventLog, token: str) -> None:
        """Continue after a resume token in this buffer. Raises PositionLost."""
        self.position = log.position_after(token)
        self._log, self.owner, self.token = log, owner, token
        self.skip_until = token if token > log.end else ""
        self.is_idle = False

    def start(self, *, is_new: bool) -> None:
        """Send the available events. A new subscription first receives the current cursor."""
        self._has_started = True
        if is_new:
            self._write(self._notice("ready"))
        self.pump()

    def pump(self) -> None:
        """Send events until the buffer is at its end, or the client does not keep up."""
        while not self._is_writing and not self.has_ended and self._log is not None:
            try:
                reading = self._log.read(
                    self.position,
                    self._form,
                    with_member=self._with_member,
                    member_ids=self.member_ids,
                    skip_until=self.skip_until,
                )
            except PositionLost:
                self.end("lagging")
                return
            self.position = reading.position
            self.token = max(self.token, reading.token)
            if reading.token >= self.skip_until:
                self.skip_until = ""
            if reading.data:
                self._metrics.events_sent += reading.events
                self.events += reading.events
                self._write(reading.data)
            elif self.position == self._log.last:
                self.is_idle = True
                if self.owner is not None:
                    self.owner.on_idle(self)
                return

    def wake(self, position: int) -> None:
        """Send the events that were added from a position on."""
        if self.is_idle:
            self.is_idle = False
            self.position = position
            self.pump()

    def tick(self, now: float, write_seconds: float) -> None:
        """Keep the connection open, and end it if its client does not keep up."""
        if self.has_ended or not self._has_started:
            return
        if self._is_writing:
            if self._log is not None and self.position < self._log.first:
                self.end("lagging")
            elif now - self._written_at > write_seconds:
                self.end("slow")
        elif now - self._written_at >= self._pause:
            self._comments += 1
            if self.is_idle and self._comments % _PROGRESS_EVERY == 0:
                self._write(progress(self._form, self._cursor()))
            else:
                self._write(KEEP_ALIVE[self._form])

    def end(self, reason: str) -> None:
        """End the response, if it has not ended, after an event that states the reason."""
        if self.has_ended:
            return
        last = b""
        if reason in _DETAILS:
            last = self._notice(reason)
        elif reason in _RECONNECT and self._form is Format.SSE:
            # Clients that were disconnected together do not reconnect together.
            retry = random.randint(_LEAST_RETRY_MS, _MOST_RETRY_MS)  # noqa: S311  # jitter
            last = b"retry: %d\nid: %b\n\n" % (retry, self._cursor().encode())
        self.has_ended = True
        self._metrics.disconnections[reason] += 1
        self._leave()
        if reason == "slow":
            self._sink.abort_events(reason)
            return
        if last and self._has_started:
            _ignore(self._sink.send_events(last))
        self._sink.end_events(reason)

    def _leave(self) -> None:
        owner, self.owner, self._log = self.owner, None, None
        if owner is not None:
            owner.detach(self)

    def _notice(self, kind: str) -> bytes:
        return notice(self._form, self._cursor(), kind, _DETAILS[kind])

    def _cursor(self) -> str:
        """Return the cursor up to which everything was sent, for the client."""
        if self.is_idle and self._log is not None:
            self.token = max(self.token, self._log.settled)
        return self._cursors.encode(self.token)

    def _write(self, data: bytes) -> None:
        self._written_at = asyncio.get_running_loop().time()
        sent = self._sink.send_events(data)
        if sent.done():
            self._flushed(sent)
        else:
            self._is_writing = True
            sent.add_done_callback(self._on_sent)

    def _on_sent(self, sent: "Future[None]") -> None:
        self._is_writing = False
        self._flushed(sent)
        self.pump()

    def _flushed(self, sent: "Future[None]") -> None:
        if sent.cancelled() or sent.exception():
            self.end("client")


def _ignore(sent: "Future[None]") -> None:
    """Retrieve the exception of a piece that its client does not read."""
    sent.add_done_callback(lambda done: done.cancelled() or done.exception())
