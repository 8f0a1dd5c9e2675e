"""Serves subscriptions that resume before the buffer of the live reader.

One reader at a time begins at the oldest token requested, and reads until its subscriptions can
continue in the live buffer. So a process has at most two change streams, however many clients
reconnect at once. The reader pauses after each batch for as long as the batch took: clients that
repeatedly resume after an old token take at most half of the time of one stream.
"""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from logging import getLogger
from typing import Final, Protocol

from tornado_members.errors import ChangesLost, DependencyUnavailable
from tornado_members.feed.metrics import FeedMetrics
from tornado_members.feed.reader import FeedLost, FeedReader
from tornado_members.feed.subscription import Subscription
from tornado_members.storage.change_reader import ChangesUnavailable

log = getLogger(__name__)

_GATHER_SECONDS: Final = 0.02  # in which clients that reconnect together share a stream
_POLL_SECONDS: Final = 0.02
_LONGEST_REST: Final = 1.0  # seconds

_rest = asyncio.sleep


class _CaughtUp(Exception):
    """No subscription needs the reader any more."""


class MakeReader(Protocol):
    """Makes the reader of one round."""

    def __call__(
        self,
        token: str,
        *,
        after_batch: Callable[[FeedReader], Awaitable[None]],
        when_idle: Callable[[Subscription], None],
    ) -> FeedReader:
        """Return a reader that begins after `token`."""
        ...


class CatchUp:
    """The subscriptions that are behind, and the reader that serves some of them."""

    def __init__(
        self,
        make_reader: MakeReader,
        live: Callable[[], FeedReader | None],
        metrics: FeedMetrics,
    ) -> None:
        """`live` returns the live reader."""
        self._make_reader = make_reader
        self._live = live
        self._metrics = metrics
        self._waiting: dict[Subscription, tuple[str, Future[None]]] = {}
        self._reader: FeedReader | None = None
        self._running: asyncio.Task[None] | None = None
        self._rested_at = 0.0
        self._was_lost = False  # the token with which the last round began

    async def join(self, subscription: Subscription, token: str) -> None:
        """Attach a subscription to a reader, after a token.

        Raises ChangesLost, DependencyUnavailable.
        """
        attached: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[subscription] = token, attached
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        try:
            await attached
        finally:
            self._waiting.pop(subscription, None)

    async def close(self) -> None:
        """Stop reading."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_GATHER_SECONDS)
                await self._follow()
        finally:
            self._running = None

    async def _follow(self) -> None:
        """Serve the waiting subscriptions, from the oldest token requested."""
        tokens = [token for token, _ in self._waiting.values()]
        if not tokens:
            return
        # After a lost token, serve the first that waits: clients could send ever older tokens.
        token = tokens[0] if self._was_lost else min(tokens)
        self._was_lost = False
        self._rested_at = asyncio.get_running_loop().time()
        self._metrics.catch_ups += 1
        reader = self._reader = self._make_reader(
            token, after_batch=self._after_batch, when_idle=self._move
        )
        try:
            await reader.run()
        except _CaughtUp:
            await self._rest()
        except FeedLost as lost:
            self._was_lost = True
            self._end(reader, "lost")
            for token, attached in self._waiting.values():
                if token <= lost.token and not attached.done():
                    attached.set_exception(ChangesLost())
        except (ChangesUnavailable, DependencyUnavailable) as error:
            log.warning("the change feed cannot be resumed: %s", error)
            self._fail(reader)
        except Exception:
            log.exception("the change feed failed")
            self._fail(reader)
        finally:
            self._reader = None

    def _fail(self, reader: FeedReader) -> None:
        self._end(reader, "failed")
        for _, attached in self._waiting.values():
            if not attached.done():
                attached.set_exception(DependencyUnavailable())

    def _end(self, reader: FeedReader, reason: str) -> None:
        for subscription in [*reader.subscriptions]:
            subscription.end(reason)

    async def _after_batch(self, reader: FeedReader) -> None:
        """Attach waiting subscriptions, and move those that have caught up to the live reader.

        Raises _CaughtUp.
        """
        self._attach_waiting(reader)
        for subscription in [*reader.subscriptions]:
            if subscription.is_idle:
                self._move(subscription)
        if not reader.subscriptions and not self._can_serve_waiting(reader):
            raise _CaughtUp
        await self._rest()
        while reader.subscriptions and not self._may_continue(reader):
            await asyncio.sleep(_POLL_SECONDS)
            self._rested_at = asyncio.get_running_loop().time()
        if not reader.subscriptions and not self._can_serve_waiting(reader):
            raise _CaughtUp

    async def _rest(self) -> None:
        """Pause for as long as the work since the last pause took."""
        now = asyncio.get_running_loop().time
        await _rest(min(now() - self._rested_at, _LONGEST_REST))
        self._rested_at = now()

    def _may_continue(self, reader: FeedReader) -> bool:
        """True if the fastest client has read everything, or if other clients wait for a stream.

        Otherwise a client that reads alone, slower than MongoDB, would fall out of the buffer.
        """
        return bool(self._waiting) or any(
            subscription.is_idle for subscription in reader.subscriptions
        )

    def _can_serve_waiting(self, reader: FeedReader) -> bool:
        """True if a subscription that waits can be served by this reader."""
        start = reader.log.start if reader.log else ""
        return any(token >= start and not f.done() for token, f in self._waiting.values())

    def _attach_waiting(self, reader: FeedReader) -> None:
        for subscription, (token, attached) in self._waiting.items():
            if reader.log is None or attached.done() or token < reader.log.start:
                continue
            is_current = reader.log.position_after(token) == reader.log.last
            live = self._reachable(reader) if is_current else None
            if live is not None:
                live.attach(subscription, max(token, reader.log.end))
            elif reader.has_read:
                reader.attach(subscription, token)
            else:  # whether the token still exists is not known yet
                continue
            attached.set_result(None)

    def _reachable(self, reader: FeedReader) -> FeedReader | None:
        """Return the live reader if its buffer continues where this reader is."""
        live = self._live()
        if live is None or live.log is None or reader.log is None:
            return None
        return live if reader.log.end >= live.log.start else None

    def _move(self, subscription: Subscription) -> None:
        """Move an idle subscription to the live buffer, if possible."""
        reader = self._reader
        live = self._reachable(reader) if reader else None
        if reader is None or reader.log is None or live is None:
            return
        token = max(subscription.skip_until, reader.log.end)
        reader.detach(subscription)
        live.attach(subscription, token)
        subscription.pump()
