"""Follows one change stream, and fills one buffer for all subscriptions that are attached to it.

Before an event enters the buffer, the reader invalidates the member in the cache. So a read that
starts after a client has received the event is not older than the event (docs/decisions/feed.md).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from logging import getLogger
from typing import Final

from tornado_members.errors import DependencyUnavailable
from tornado_members.feed.cursors import Cursors
from tornado_members.feed.event_log import EventLog
from tornado_members.feed.events import FeedEvent
from tornado_members.feed.metrics import FeedMetrics
from tornado_members.feed.subscription import Subscription
from tornado_members.in_turns import map_in_turns
from tornado_members.storage.change_reader import ChangesUnavailable, HistoryLost
from tornado_members.storage.feed_source import FeedBatch, FeedSource, MemberChange

log = getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds before the stream is reopened
_PIECES: Final = 4  # into which the buffer is divided: a batch may be larger than the buffer
_PER_TURN: Final = 50  # subscriptions that are served in one turn of the event loop

# Returns once no process returns older states of these members (ids, and current names).
Invalidate = Callable[[Mapping[int, str | None]], Awaitable[None]]


class FeedLost(Exception):
    """Changes up to a resume token can no longer be reported."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.token = token


class FeedReader:
    """One change stream, its buffer and its subscriptions."""

    def __init__(
        self,
        source: FeedSource,
        invalidate: Invalidate,
        cursors: Cursors,
        metrics: FeedMetrics,
        *,
        max_bytes: int,
        token: str | None = None,
        after_batch: "Callable[[FeedReader], Awaitable[None]] | None" = None,
        when_idle: Callable[[Subscription], None] | None = None,
    ) -> None:
        """Begin after `token`, or now. `max_bytes` is the limit of the buffer.

        `after_batch` is called after each batch, and before the first one with events. `when_idle`
        is called for a subscription that has sent all events of the buffer.
        """
        self.log: EventLog | None = None  # None until the stream is open
        self.subscriptions: set[Subscription] = set()
        self.opened = asyncio.Event()
        self.has_read = False  # more than the confirmation that the stream is open
        self._unfiltered: set[Subscription] = set()
        self._by_member: dict[int, set[Subscription]] = {}
        self._source = source
        self._invalidate = invalidate
        self._cursors = cursors
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._token = token
        self._after_batch = after_batch
        self._when_idle = when_idle

    async def run(self) -> None:
        """Follow the stream until cancelled, and reopen it where it breaks.

        Raises FeedLost; and ChangesUnavailable if the stream cannot be opened the first time.
        """
        pause = _FIRST_PAUSE
        while True:
            before = self._token
            try:
                async with aclosing(self._source.since(self._token)) as batches:
                    async for batch in batches:
                        if batch.is_lost:
                            raise FeedLost(batch.token)
                        await self._process(batch)
            except HistoryLost as error:
                log.warning("the change feed has lost its position: %s", error)
                raise FeedLost(self._token or "") from error
            except (ChangesUnavailable, DependencyUnavailable) as error:
                if self.log is None:
                    raise
                log.warning("the change feed broke; reopening it: %s", error)
            if self._token != before:  # it has advanced since it was opened
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._metrics.reopened += 1

    async def _process(self, batch: FeedBatch) -> None:
        """Invalidate the members in the cache, and then report the changes."""
        events: list[FeedEvent] = []
        if batch.changes:
            names = {
                change.member_id: change.member.name if change.member else None
                for change in batch.changes
            }
            await self._invalidate(names)
            events = await map_in_turns(self._to_event, batch.changes)
        if self.log is None:
            self.log = EventLog(self._token or batch.token, self._max_bytes)
            self.opened.set()
        elif not self.has_read:
            self.has_read = True
            # Now: the buffer may not hold the events of one batch, and drops the first ones.
            if self._after_batch and events:
                await self._after_batch(self)
        for some in _pieces(events, self._max_bytes // _PIECES):
            position = self.log.last
            self.log.add(some, some[-1].token)
            await self._distribute(some, position)
            self.log.settled = some[-1].token
            await asyncio.sleep(0)  # runs the callbacks of pieces that were sent at once
        self.log.add([], batch.token)
        self.log.settled = self._token = batch.token
        is_live = self._after_batch is None  # the lag of clients that catch up is not the feed's
        if is_live and batch.happened and events:
            lag = (datetime.now(UTC) - batch.happened).total_seconds()
            self._metrics.lag_seconds = max(lag, 0.0)
        if self._after_batch:
            await self._after_batch(self)

    def _to_event(self, change: MemberChange) -> FeedEvent:
        return FeedEvent(change, self._cursors.encode(change.token))

    async def _distribute(self, events: list[FeedEvent], position: int) -> None:
        filtered = [
            self._by_member.get(member_id, ()) for member_id in {e.member_id for e in events}
        ]
        woken = dict.fromkeys(
            [*self._unfiltered, *(subscription for some in filtered for subscription in some)]
        )
        for count, subscription in enumerate(woken, 1):
            if subscription.owner is self:
                subscription.wake(position)
            if count % _PER_TURN == 0:
                await asyncio.sleep(0)

    def attach(self, subscription: Subscription, token: str) -> None:
        """Serve a subscription from a resume token on. Raises PositionLost."""
        if self.log is None:
            raise RuntimeError("the stream is not open")
        if subscription.has_ended:  # while it waited
            return
        subscription.attach(self, self.log, token)
        self.subscriptions.add(subscription)
        if subscription.member_ids is None:
            self._unfiltered.add(subscription)
        for member_id in subscription.member_ids or ():
            self._by_member.setdefault(member_id, set()).add(subscription)

    def detach(self, subscription: Subscription) -> None:
        """Stop serving a subscription."""
        self.subscriptions.discard(subscription)
        self._unfiltered.discard(subscription)
        for member_id in subscription.member_ids or ():
            others = self._by_member.get(member_id, set())
            others.discard(subscription)
            if not others:
                self._by_member.pop(member_id, None)

    def on_idle(self, subscription: Subscription) -> None:
        """Handle a subscription that has sent all events of the buffer."""
        if self._when_idle:
            self._when_idle(subscription)


def _pieces(events: Sequence[FeedEvent], max_bytes: int) -> Iterator[list[FeedEvent]]:
    """Divide events into pieces of at most `max_bytes`, or of one event."""
    piece: list[FeedEvent] = []
    size = 0
    for event in events:
        if piece and size + event.size > max_bytes:
            yield piece
            piece, size = [], 0
        piece.append(event)
        size += event.size
    if piece:
        yield piece
