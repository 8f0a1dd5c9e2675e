"""The common part of the caches that replace LeaseCache in tests and benchmarks."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from tornado_members.lease_cache.cache import AnnouncedWrite
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import LookUp

T = TypeVar("T")


class UnleasedCache:
    """A cache without leases, tombstones and epochs, with the interface of directory.cache.Cache.

    Subclasses define the other methods.
    """

    def __init__(self) -> None:
        self.counts = CacheCounts()

    async def open(self) -> None:
        """Do nothing."""

    async def look_up(self, keys: Sequence[bytes]) -> list[LookUp]:
        """Look keys up, as LeaseCache does."""
        raise NotImplementedError

    async def invalidate(self, keys: Iterable[bytes]) -> bool:
        """Remove entries. Return True if they are removed."""
        raise NotImplementedError

    async def load(self, _keys: Sequence[bytes], load: Callable[[], Awaitable[T]]) -> T:
        """Return what `load` returns."""
        return await load()

    async def look_up_bodies(
        self, keys: KeyList, _tag_end: bytes
    ) -> tuple[list[bytes], list[LookUp]]:
        """Look keys up, and return no list of bodies."""
        return [], await self.look_up([*keys])

    @asynccontextmanager
    async def changing(self, *keys: bytes) -> AsyncIterator[AnnouncedWrite]:
        """Remove the entries of a write, even if its outcome is unknown."""
        try:
            yield AnnouncedWrite(math.inf, time.monotonic)
        finally:
            await self.invalidate(keys)

    async def invalidate_for_all(self, keys: Iterable[bytes]) -> None:
        """Remove entries."""
        await self.invalidate(keys)

    def server_list_conflict(self) -> str | None:
        """Return None: this cache does not check the lists of servers."""
        return None

    async def wait_for_failure(self) -> None:
        """Wait for ever: this cache does not monitor its nodes."""
        await asyncio.Event().wait()
