"""The shared buffer: the latest events, in the order of their tokens, bounded in bytes.

A subscriber holds only its position in the buffer. One that is too slow loses its position, and
no other subscriber notices it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from tornado_members.feed.events import FeedEvent, Format

MAX_CHUNK: Final = 64 * 1024  # bytes sent to a subscriber at once


class PositionLost(Exception):
    """The position is no longer in the buffer."""


class Reading(NamedTuple):
    """The events from a position on, as bytes."""

    data: bytes
    events: int
    position: int  # after them
    token: str  # the token of the last of them, or the end of the buffer


class EventLog:
    """The buffer. A position is the number of events that were added before it."""

    def __init__(self, start: str, max_bytes: int) -> None:
        """`start` is the token after which the events begin."""
        self.start = self.end = start
        self.settled = start  # the token up to which all events were given to idle subscribers
        self.first = 0  # the position of the oldest event
        self._events: list[FeedEvent] = []
        self._bytes = 0
        self._max_bytes = max_bytes
        self._shared: dict[tuple[int, Format, bool], Reading] = {}  # since the last change

    @property
    def last(self) -> int:
        """The position after the newest event."""
        return self.first + len(self._events)

    def add(self, events: Sequence[FeedEvent], end: str) -> None:
        """Add events, and drop the oldest ones beyond the limit. `end` is the token after them."""
        self._shared.clear()
        self._events += events
        self.end = end
        self._bytes += sum(event.size for event in events)
        excess = 0
        while self._bytes > self._max_bytes and excess < len(self._events) - 1:
            self._bytes -= self._events[excess].size
            excess += 1
        if excess:
            self.start = self._events[excess - 1].token
            self.first += excess
            del self._events[:excess]

    def position_after(self, token: str) -> int:
        """Return the position of the first event after a token. Raises PositionLost."""
        if token < self.start:
            raise PositionLost
        return self.first + bisect_right(self._events, token, key=lambda event: event.token)

    def read(
        self,
        position: int,
        form: Format,
        *,
        with_member: bool,
        member_ids: frozenset[int] | None = None,
        skip_until: str = "",
    ) -> Reading:
        """Return events from a position on, as many as fit into a chunk. Raises PositionLost.

        `member_ids` are the only members of interest, if there are any. Events up to the token
        `skip_until` are left out.
        """
        if position < self.first:
            raise PositionLost
        key = (position, form, with_member)
        is_shared = member_ids is None and not skip_until
        if is_shared and key in self._shared:
            return self._shared[key]
        chunks, size, token = [], 0, self.end
        for index in range(position - self.first, len(self._events)):
            if size >= MAX_CHUNK:
                break
            event = self._events[index]
            position += 1
            token = event.token
            if (member_ids is None or event.member_id in member_ids) and event.token > skip_until:
                chunks.append(event.encode(form, with_member=with_member))
                size += len(chunks[-1])
        if position == self.last:
            token = self.end
        reading = Reading(b"".join(chunks), len(chunks), position, token)
        if is_shared:
            self._shared[key] = reading
        return reading
