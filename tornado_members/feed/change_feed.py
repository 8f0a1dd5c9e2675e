"""All subscribers of this process, and the change stream that serves them."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from logging import getLogger
from typing import Final

from tornado_members.auth.tokens import TokenVerifier
from tornado_members.errors import (
    ChangesLost,
    DependencyUnavailable,
    FeedUnavailable,
    Overloaded,
)
from tornado_members.feed.access import Access
from tornado_members.feed.catch_up import CatchUp
from tornado_members.feed.cursors import Cursors, ForeignCursor
from tornado_members.feed.event_log import PositionLost
from tornado_members.feed.metrics import FeedMetrics
from tornado_members.feed.reader import FeedLost, FeedReader, Invalidate
from tornado_members.feed.subscription import Subscription
from tornado_members.storage.change_reader import ChangesUnavailable, NotReplicated
from tornado_members.storage.feed_source import FeedSource

log = getLogger(__name__)

_TICK_SECONDS: Final = 0.1  # between two checks for revocations
_TICKS: Final = 10  # between two checks of each subscriber


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """Limits of one process."""

    subscribers: int
    buffer_bytes: int
    write_seconds: float  # that a client may read nothing


class ChangeFeed:
    """Opens a change stream with the first subscriber, and closes it after the last."""

    def __init__(
        self,
        source: FeedSource,
        invalidate: Invalidate,
        cursors: Cursors,
        tokens: TokenVerifier,
        limits: FeedLimits,
    ) -> None:
        """`invalidate` removes members from the cache of all processes."""
        self.cursors = cursors
        self.metrics = FeedMetrics()
        self._source = source
        self._invalidate = invalidate
        self._tokens = tokens
        self._limits = limits
        self._subscribers: dict[Subscription, Access] = {}
        self._held: Counter[tuple[str, str]] = Counter()  # subscriptions of each subject
        self._live: _Following | None = None
        self._catch_up = CatchUp(self._make_reader, self._live_reader, self.metrics)
        self._ending: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._is_draining = False

    async def subscribe(
        self, subscription: Subscription, access: Access, cursor: str | None
    ) -> None:
        """Attach a subscription after a cursor, or now. The caller then starts it.

        Raises MalformedCursor, ChangesLost, FeedUnavailable, DependencyUnavailable, Overloaded.
        """
        try:
            token = None if cursor is None else self.cursors.decode(cursor)
        except ForeignCursor:
            raise ChangesLost from None
        if self._is_draining:
            raise Overloaded
        self._make_room(access.subject)
        self._subscribers[subscription] = access
        self._held[access.subject] += 1
        self.metrics.subscribers = len(self._subscribers)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        try:
            await self._attach(subscription, token)
        except ChangesUnavailable as error:
            self.leave(subscription)
            log.warning("the change feed cannot be opened: %s", error)
            raise _problem_of(error) from error
        except BaseException:
            self.leave(subscription)
            raise
        if subscription.has_ended:  # for example, its token expired while the stream was opened
            self._stop_if_unused()
            raise Overloaded

    def _make_room(self, subject: tuple[str, str]) -> None:
        """End a subscription of the subject that has the most, if all are taken.

        So no subject can exclude the others, and those with few subscriptions keep them. Raises
        Overloaded if this subject would then have as many as the other one.
        """
        if len(self._subscribers) < self._limits.subscribers:
            return
        for most, count in self._held.most_common(1):
            if count > self._held[subject] + 1:
                newest_first = reversed(self._subscribers.items())
                newest = next(
                    subscription for subscription, access in newest_first if access.subject == most
                )
                newest.end("displaced")
                return
        raise Overloaded

    async def _attach(self, subscription: Subscription, token: str | None) -> None:
        if self._live is None:
            self._live = _Following(self._make_reader(), self._on_live_end)
        live = self._live
        await live.opened()
        if live.reader.log is None:
            raise DependencyUnavailable
        if token and token > live.reader.log.end and await self._source.is_future(token):
            raise ChangesLost
        try:
            live.reader.attach(subscription, live.reader.log.end if token is None else token)
        except PositionLost:
            await self._catch_up.join(subscription, token or "")

    def leave(self, subscription: Subscription) -> None:
        """Remove a subscription that has ended."""
        access = self._subscribers.pop(subscription, None)
        if access is None:
            return
        self._held[access.subject] -= 1
        if not self._held[access.subject]:
            del self._held[access.subject]
        self.metrics.subscribers = len(self._subscribers)
        self._stop_if_unused()

    def _stop_if_unused(self) -> None:
        if not self._subscribers:
            self._stop()

    async def current_cursor(self) -> str | None:
        """Return the current cursor; None without a replica set. Raises DependencyUnavailable."""
        try:
            return self.cursors.encode(await self._source.current_token())
        except NotReplicated:
            return None
        except ChangesUnavailable as error:
            raise DependencyUnavailable from error

    async def check(self, cursor: str | None) -> None:
        """Check what can be checked without a subscription.

        Raises MalformedCursor, ChangesLost, FeedUnavailable, DependencyUnavailable.
        """
        try:
            token = None if cursor is None else self.cursors.decode(cursor)
            if token and await self._source.is_future(token):
                raise ChangesLost
            if not token and self._live is None:
                await self._source.current_token()
        except ForeignCursor:
            raise ChangesLost from None
        except ChangesUnavailable as error:
            log.warning("the change feed cannot be opened: %s", error)
            raise _problem_of(error) from error

    def drain(self) -> None:
        """End all subscriptions; their clients reconnect elsewhere."""
        self._is_draining = True
        for subscription in [*self._subscribers]:
            subscription.end("drain")

    async def close(self) -> None:
        """End all subscriptions, and close the change streams."""
        self.drain()
        self._stop()
        await self._catch_up.close()
        if self._ending:
            await asyncio.wait(self._ending)

    def _stop(self) -> None:
        live, self._live = self._live, None
        watching, self._watching = self._watching, None
        tasks = [watching] if watching else []
        if live is not None:
            tasks.append(live.task)
        for task in tasks:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _live_reader(self) -> FeedReader | None:
        return self._live.reader if self._live else None

    def _make_reader(
        self,
        token: str | None = None,
        *,
        after_batch: Callable[[FeedReader], Awaitable[None]] | None = None,
        when_idle: Callable[[Subscription], None] | None = None,
    ) -> FeedReader:
        return FeedReader(
            self._source,
            self._invalidate,
            self.cursors,
            self.metrics,
            max_bytes=self._limits.buffer_bytes,
            token=token,
            after_batch=after_batch,
            when_idle=when_idle,
        )

    def _on_live_end(self, live: "_Following", reason: str) -> None:
        """End the subscriptions of a live reader that has failed."""
        if self._live is live:
            self._live = None
        for subscription in [*live.reader.subscriptions]:
            subscription.end(reason)

    async def _watch(self) -> None:
        """Check the subscribers periodically, while there are any."""
        loop, ticks, seen = asyncio.get_running_loop(), 0, self._tokens.revision
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            ticks += 1
            try:
                revision = self._tokens.revision
                if revision != seen:
                    seen = revision
                    await self._check_tokens(only_expired=False)
                if ticks % _TICKS == 0:
                    now = loop.time()
                    for subscription in [*self._subscribers]:
                        subscription.tick(now, self._limits.write_seconds)
                    await self._check_tokens(only_expired=True)
            except Exception:
                log.exception("checking the subscribers of the change feed failed")

    async def _check_tokens(self, *, only_expired: bool) -> None:
        for subscription, access in [*self._subscribers.items()]:
            if only_expired and not access.has_expired:
                continue
            if not await access.is_granted():
                subscription.end("expired")
            await asyncio.sleep(0)  # the signatures of many may have to be verified again


class _Following:
    """The live reader, and the task that runs it."""

    def __init__(self, reader: FeedReader, on_end: "Callable[[_Following, str], None]") -> None:
        self.reader = reader
        self._on_end = on_end
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(_retrieve)

    async def opened(self) -> None:
        """Wait until the stream is open. Raises ChangesUnavailable, DependencyUnavailable."""
        opened = asyncio.ensure_future(self.reader.opened.wait())
        try:
            await asyncio.wait([opened, self.task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if self.reader.log is None and self.task.done() and not self.task.cancelled():
            self.task.result()

    async def _run(self) -> None:
        """Run the reader. Raises ChangesUnavailable, DependencyUnavailable if it cannot open."""
        reason = "failed"
        try:
            await self.reader.run()
        except FeedLost:
            reason = "lost"
        except (ChangesUnavailable, DependencyUnavailable):
            raise
        except Exception:
            log.exception("the change feed failed")
        finally:
            self._on_end(self, reason)


def _retrieve(task: "asyncio.Task[None]") -> None:
    """Retrieve the exception of a task; the subscribers that wait for it raise it."""
    if not task.cancelled():
        task.exception()


def _problem_of(error: ChangesUnavailable) -> FeedUnavailable | DependencyUnavailable:
    return FeedUnavailable() if isinstance(error, NotReplicated) else DependencyUnavailable()
