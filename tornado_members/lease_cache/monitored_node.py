"""One cache node, and its health as known to this process.

A node may be read only while it has replied within the heartbeat, and after it has replied for
`return_after` without a failure. A process that was stopped itself has had no reply.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.commands import Held, Put
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.heartbeat import HeartbeatThread
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.value_replies import EntryLines

T = TypeVar("T")
A = TypeVar("A")

_REST_SECONDS = 3.0  # without reads, after which the node is probed less often


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    `return_after` has to be longer than any process takes to notice that a node is back, which is
    half a heartbeat and three time-outs: each sends the invalidations that the node missed before
    others read it.
    """

    heartbeat: float
    timeout: float
    return_after: float

    @property
    def pause(self) -> float:
        """The time between two probes of a node."""
        return self.heartbeat / 4

    @property
    def resting_pause(self) -> float:
        """The time between two probes of a node that the process has not read for a while.

        It is short enough that replies stay without a gap, so that the next read may be a hit. A
        late reply then costs that hit: the node counts as one that was down.
        """
        return self.heartbeat / 2

    @property
    def noticed(self) -> float:
        """The time after which every process that shares an outage has noticed it.

        A process that has a reply in between has not. But then the outage ended within a pause and
        a time-out, and the waiting process notices that within two pauses and another time-out. A
        time-out may be a quarter longer than its name.
        """
        return self.heartbeat + 3 * self.timeout


class MonitoredNode:
    """A MemcachedNode that notes which of its commands were replied to."""

    def __init__(
        self,
        node: MemcachedNode,
        timing: Timing,
        *,
        on_failure: Callable[[], None] = lambda: None,
        now: Callable[[], float] = clock,
    ) -> None:
        """`on_failure` is called for each command that the node does not reply to."""
        self.address = node.address
        self.down_since: float | None = now()  # until it has replied once
        self.last_reply_at = float("-inf")  # when the last command that it replied to was sent
        self.last_read_at = float("-inf")  # when the process last wanted to read the node
        # Set when commands begin to fail. Probes must then be frequent: an end of the outage that
        # this process does not notice would make `down_since` too early for the next one.
        self.probe_wanted = asyncio.Event()
        self._on_failure = on_failure
        self._node = node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timing = timing
        self._now = now
        self._readable_at = float("inf")
        self._failed_at = float("-inf")
        self._heartbeat = HeartbeatThread(
            *node.host_port,
            pause=timing.pause,
            timeout=timing.timeout,
            heartbeat=timing.heartbeat,
            resting_pause=timing.resting_pause,
            is_read=lambda: now() - self.last_read_at < _REST_SECONDS,
            on_broken=self._note_broken,
            other_reply_at=lambda: self.last_reply_at,
            now=now,
        )

    def start(self) -> None:
        """Begin to probe the node in a thread."""
        self._loop = asyncio.get_running_loop()
        self._heartbeat.start()

    def _note_broken(self) -> None:
        """Have the node probed at once: it may have restarted. Called in the heartbeat's thread."""
        if self._loop:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.probe_wanted.set)

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.to_thread(self._heartbeat.stop)
        await self._node.close()

    def readable_at(self) -> float | None:
        """When the node will have replied for long enough; None if it does not reply."""
        last_reply_at = max(self.last_reply_at, self._heartbeat.last_reply_at)
        if self.down_since is not None or self._now() - last_reply_at > self._timing.heartbeat:
            return None
        return max(self._readable_at, self._heartbeat.recovered_at + self._timing.return_after)

    def get_many(self, keys: Sequence[bytes]) -> Awaitable[Mapping[bytes, bytes]]:
        """Like the method of MemcachedNode."""
        return self._monitored(self._node.get_many, keys)

    def get_entries(
        self, before: Sequence[bytes], keys: KeyList
    ) -> Awaitable[tuple[Mapping[bytes, bytes], EntryLines | Mapping[bytes, bytes]]]:
        """Like the method of MemcachedNode."""
        return self._monitored(partial(self._node.get_entries, before), keys)

    def gets_many(self, keys: Sequence[bytes]) -> Awaitable[Mapping[bytes, Held]]:
        """Like the method of MemcachedNode."""
        return self._monitored(self._node.gets_many, keys)

    def put_many(self, puts: Sequence[Put]) -> Awaitable[Sequence[int | None]]:
        """Like the method of MemcachedNode."""
        return self._monitored(self._node.put_many, puts)

    async def _monitored(self, command: Callable[[A], Awaitable[T]], argument: A) -> T:
        began = self._now()
        try:
            result = await command(argument)
        except NodeUnavailable:
            # Between failures that lie far apart it may have been up without our noticing.
            if self.down_since is None:
                self.probe_wanted.set()
            if self.down_since is None or began - self._failed_at > self._timing.heartbeat:
                self.down_since = self._now()
            self._failed_at = self._now()
            self._on_failure()
            raise
        # Not when the command began: it may have waited for its turn since.
        began = max(began, self._node.last_reply_at)
        last_reply_at = max(self.last_reply_at, self._heartbeat.last_reply_at)
        if self.down_since is not None or began - last_reply_at > self._timing.heartbeat:
            self.down_since = None
            self._readable_at = self._now() + self._timing.return_after
        self.last_reply_at = max(self.last_reply_at, began)
        return result
