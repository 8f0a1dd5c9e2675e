"""The service with a cache in its own memory, to measure the handlers without Memcached.

It is correct for one process only, and for members that do not change during the measurement.
"""

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from tornado_members import services
from tornado_members.__main__ import main
from tornado_members.lease_cache.cache import AnnouncedWrite
from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import (
    HIT,
    STORED,
    Bypass,
    Found,
    Hit,
    LookUp,
    NotHit,
)
from tornado_members.lease_cache.reads import LoadMany

T = TypeVar("T")


class MemoryCache:
    """Implements directory.cache.Cache."""

    def __init__(self) -> None:
        self.counts = CacheCounts()
        self._entries: dict[bytes, Entry | None] = {}

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def read(
        self,
        key: bytes,
        load: Callable[[], Awaitable[Entry | None]],
        *,
        rejected: Entry | None = None,
        look_up: LookUp | None = None,
    ) -> Found:
        """Return the entry of a key, loaded once."""
        if key in self._entries and (rejected is None or self._entries[key] != rejected):
            return Found(self._entries[key], HIT)
        entry = self._entries[key] = await load()
        return Found(entry, STORED)

    async def load(self, _keys: Sequence[bytes], load: Callable[[], Awaitable[T]]) -> T:
        """Return what `load` returns."""
        return await load()

    async def look_up(self, keys: Sequence[bytes]) -> list[LookUp]:
        """Return the entries that were loaded."""
        return [*map(self._look_up, keys)]

    def _look_up(self, key: bytes) -> LookUp:
        entry = self._entries.get(key)
        if entry is None:
            return Bypass("in-memory")
        return Hit(b"%d" % entry.version, entry.tag, entry.body, b"", b"")

    async def look_up_bodies(
        self,
        keys: KeyList,
        _tag_end: bytes,
    ) -> tuple[list[bytes], list[LookUp]]:
        """Return the entries that were loaded, and no list of bodies."""
        return [], await self.look_up([*keys])

    async def fill(
        self,
        look_ups: Mapping[bytes, NotHit],
        load: LoadMany,
        *,
        unless_read: bool = False,
    ) -> dict[bytes, Found]:
        """Load all keys, and store nothing."""
        loaded = await load([*look_ups])
        found = [Found(entry, "fwd=bypass") for entry in loaded]
        return dict(zip(look_ups, found, strict=True))

    @asynccontextmanager
    async def changing(self, *keys: bytes) -> AsyncIterator[AnnouncedWrite]:
        """Remove the entries of a write."""
        try:
            yield AnnouncedWrite(math.inf, clock)
        finally:
            await self.invalidate(keys)

    def states(self) -> Mapping[str, str | None]:
        """Return no node."""
        return {}

    def server_list_conflict(self) -> str | None:
        """Return None: it has no list of servers."""
        return None

    async def invalidate(self, keys: Iterable[bytes]) -> bool:
        """Remove entries."""
        for key in keys:
            self._entries.pop(key, None)
        return True

    async def invalidate_for_all(self, keys: Iterable[bytes]) -> None:
        """Remove entries."""
        await self.invalidate(keys)

    async def wait_for_failure(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def renew_epochs(self) -> bool:
        """Remove all entries."""
        self._entries.clear()
        return True


if __name__ == "__main__":
    services.make_cache = lambda *_: MemoryCache()
    sys.exit(main())
