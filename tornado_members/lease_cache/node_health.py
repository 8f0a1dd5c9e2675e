"""The health of a cache node, as known to this process: since when it replies, or does not."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.heartbeat import HeartbeatThread
from tornado_members.lease_cache.memcached import MemcachedNode

_REST_SECONDS = 3.0  # without reads, after which the node is probed less often
_RESTING_PAUSE = 0.7  # of the heartbeat


def unaligned(seconds: float) -> float:
    """Return the pause as it is."""
    return seconds


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
    # Returns a pause that is not longer than the given one, and ends together with those of other
    # tasks of the process: to wake an idle process costs more than most of these tasks do.
    align: Callable[[float], float] = unaligned

    @property
    def pause(self) -> float:
        """The time between two probes of a node."""
        return self.heartbeat / 4

    @property
    def resting_pause(self) -> float:
        """The time between two probes of a node that the process has not read for a while.

        It is short enough that replies stay without a gap, so that the next read may be a hit. A
        late reply then costs that hit: the node counts as one that was down. It also is so short
        that a waiting process notices the end of any outage that this one misses (`noticed`).
        """
        return min(_RESTING_PAUSE * self.heartbeat, (self.heartbeat + self.timeout) / 2)

    @property
    def noticed(self) -> float:
        """The time after which every process that shares an outage has noticed it.

        A process that has a reply in between has not. But then the outage ended within a resting
        pause and a time-out, and the waiting process notices that within two pauses and another
        time-out. A time-out may be a quarter longer than its name.
        """
        return self.heartbeat + 3 * self.timeout


class NodeHealth:
    """Records since when a node replies to commands, or does not.

    `node` and `heartbeat` record the last replies to commands and to probes.
    """

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
        self.recovered_at = float("inf")  # when it replied to a command again, after a failure
        self.last_read_at = float("-inf")  # when the process last wanted to read the node
        # Set when commands begin to fail. Probes must then be frequent: an end of the outage that
        # this process does not notice would make `down_since` too early for the next one.
        self.probe_wanted = asyncio.Event()
        self._on_failure = on_failure
        self.node = node
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timing = timing
        self._now = now
        self._failed_at = float("-inf")
        self.heartbeat = HeartbeatThread(
            *node.host_port,
            pause=timing.pause,
            timeout=timing.timeout,
            heartbeat=timing.heartbeat,
            resting_pause=timing.resting_pause,
            is_read=self.is_read,
            on_broken=self._note_broken,
            other_reply_at=lambda: node.last_reply_at,
            now=now,
        )
        node.observe(timing.heartbeat, on_return=self._note_return, on_failure=self._note_failure)

    def start(self) -> None:
        """Begin to probe the node in a thread."""
        self._loop = asyncio.get_running_loop()
        self.heartbeat.start()

    def is_read(self) -> bool:
        """True if the process wanted to read the node recently. Threads may call this."""
        return self._now() - self.last_read_at < _REST_SECONDS

    def _note_broken(self) -> None:
        """Have the node probed at once: it may have restarted. Called in the heartbeat's thread."""
        if self._loop:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.probe_wanted.set)

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.to_thread(self.heartbeat.stop)
        await self.node.close()

    def _note_return(self, sent_at: float) -> None:
        """Note the reply to a command that was sent at this time, after a failure or a gap."""
        last_reply_at = max(self.node.last_reply_at, self.heartbeat.last_reply_at)
        if self.down_since is not None or sent_at - last_reply_at > self._timing.heartbeat:
            self.down_since = None
            self.recovered_at = self._now()

    def _note_failure(self, sent_at: float) -> None:
        """Note that the node does not reply to a command that was sent at this time."""
        if self.down_since is None:
            self.probe_wanted.set()
        # Between failures that lie far apart it may have been up without our noticing.
        if self.down_since is None or sent_at - self._failed_at > self._timing.heartbeat:
            self.down_since = self._now()
        self._failed_at = self._now()
        self._on_failure()
