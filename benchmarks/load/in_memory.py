"""The service with a cache in its own memory, to measure the handlers without Memcached.

It is correct for one process only, and for members that do not change during the measurement.
"""

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from tests.support.unleased_cache import UnleasedCache
from tornado_members import services
from tornado_members.__main__ import main
from tornado_members.lease_cache.entries import Entry
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


class MemoryCache(UnleasedCache):
    """A cache in the memory of this process."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[bytes, Entry | None] = {}

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

    async def look_up(self, keys: Sequence[bytes]) -> list[LookUp]:
        """Return the entries that were loaded."""
        return [*map(self._look_up, keys)]

    def _look_up(self, key: bytes) -> LookUp:
        entry = self._entries.get(key)
        if entry is None:
            return Bypass("in-memory")
        return Hit(b"%d" % entry.version, entry.tag, entry.body, b"", b"")

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

    def states(self) -> Mapping[str, str | None]:
        """Return no node."""
        return {}

    async def invalidate(self, keys: Iterable[bytes]) -> bool:
        """Remove entries."""
        for key in keys:
            self._entries.pop(key, None)
        return True

    async def renew_epochs(self) -> bool:
        """Remove all entries."""
        self._entries.clear()
        return True


if __name__ == "__main__":
    services.make_cache = lambda *_: MemoryCache()
    sys.exit(main())
