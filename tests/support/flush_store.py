"""A store of pending flushes in memory, for the caches of one test."""

from collections.abc import Sequence

from tornado_members.lease_cache.pending_flushes import PendingFlush
from tornado_members.storage.pending_flushes import RECORD_SECONDS


class MemoryFlushStore:
    """Works as storage/pending_flushes.py does in MongoDB."""

    deadline = RECORD_SECONDS

    def __init__(self) -> None:
        self.pending_flushes: dict[tuple[str, str], PendingFlush] = {}

    async def record(self, flush: PendingFlush) -> None:
        self.pending_flushes[flush.node, flush.process] = flush

    async def remove(self, flush: PendingFlush) -> None:
        if self.pending_flushes.get((flush.node, flush.process)) == flush:
            del self.pending_flushes[flush.node, flush.process]

    async def read(self) -> Sequence[PendingFlush]:
        return list(self.pending_flushes.values())
