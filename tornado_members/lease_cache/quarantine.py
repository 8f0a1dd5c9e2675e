"""The early end of a quarantine: when no write is under way that may have lost its tombstones.

A quarantine lasts as long as a write may take, because a node that restarted has lost the
tombstones of writes that other processes may have under way. But each process knows its own. So
- a process that sees a quarantine *confirms* it, on the node, when all writes that it had begun
  before are over;
- a process regards a quarantine as ended when all processes have confirmed it that are registered
  (registry.py), as read after it saw the quarantine. A process registers before its first write, so
  one that is not registered yet places its tombstones on the node as it is now.

A process that was killed or is paused does not confirm. Then the quarantine lasts to its end, or
until the other processes have removed its registration: then its writes are over, too.

Each quarantine has a number of its own, which is a part of the keys of its confirmations. A node
that restarts again begins with another one.
"""

from collections.abc import Awaitable, Callable, Collection

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.epochs import NodeEpoch
from tornado_members.lease_cache.writes import WritesUnderWay

_READ_SECONDS = 0.1  # between two reads of the confirmations


class QuarantineWatch:
    """The quarantine of a node, as one process sees it."""

    def __init__(
        self,
        epoch: NodeEpoch,
        *,
        process: str,
        writes: WritesUnderWay,
        registered: Callable[[], Awaitable[Collection[str]]],
        now: Callable[[], float] = clock,
    ) -> None:
        """`registered` reads the names of all processes; it raises StoreUnavailable."""
        self._epoch = epoch
        self._process = process
        self._writes = writes
        self._registered = registered
        self._now = now
        self._current: bytes | None = None
        self._before: frozenset[bytes] = frozenset()  # writes that were under way when it was seen
        self._is_confirmed = False  # by this process
        self._read_at = float("-inf")

    def notice(self, quarantine: bytes) -> None:
        """Note that the node is in this quarantine."""
        if quarantine != self._current:
            self._current, self._is_confirmed = quarantine, False
            self._before = self._writes.current()

    async def advance(self) -> None:
        """Confirm or end the quarantine, if it is time. Raises NodeUnavailable and others."""
        quarantine, now = self._current, self._now()
        if quarantine is None or quarantine == self._epoch.ended_quarantine:
            return
        if not self._is_confirmed and not self._before & self._writes.current():
            await self._epoch.confirm_quarantine(quarantine, self._process)
            self._is_confirmed = True
        if self._is_confirmed and now - self._read_at >= _READ_SECONDS:
            self._read_at = now
            processes = await self._registered()
            if await self._epoch.is_quarantine_confirmed(quarantine, processes):
                self._epoch.ended_quarantine = quarantine
