"""Invalidate entries of the cache that other programs made stale, and report on its nodes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from tornado_members.directory.cache import Cache
from tornado_members.errors import DependencyUnavailable
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.errors import StoreUnavailable
from tornado_members.member_entries import id_key, name_key
from tornado_members.storage.changes import Change


class CacheInvalidation:
    """The entries of members in the cache, apart from reads and writes of members."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def cache_counts(self) -> CacheCounts:
        """The counters of the cache, for metrics."""
        return self._cache.counts

    def cache_states(self) -> Mapping[str, str | None]:
        """Return, by the address of each node, why it is not read now; None if it is read."""
        return self._cache.states()

    def reaches_all_nodes(self) -> bool:
        """True if every node of the cache responds to this process."""
        return "node-unavailable" not in self._cache.states().values()

    async def wait_for_failure(self) -> None:
        """Return after the next command that a node of the cache does not reply to."""
        await self._cache.wait_for_failure()

    def server_list_conflict(self) -> str | None:
        """Return how the nodes in use differ from `cache.servers`; None if they do not."""
        return self._cache.server_list_conflict()

    async def invalidate_members(self, changes: Iterable[Change]) -> bool:
        """Invalidate members that another client changed, and their new names.

        False if a node does not respond. The cache records this and invalidates the node later.
        """
        keys = []
        for change in changes:
            keys.append(id_key(change.member_id))
            if change.name is not None:
                keys.append(name_key(change.name))
        with _shared_store_outages():
            return await self._cache.invalidate(dict.fromkeys(keys))

    async def invalidate_for_all(self, names: Mapping[int, str | None]) -> None:
        """Return once no process returns older states of these members and of their names.

        `names` are the current names by the members' ids; None for a member that was deleted.
        """
        keys = [id_key(member_id) for member_id in names]
        keys += [name_key(name) for name in names.values() if name is not None]
        with _shared_store_outages():
            await self._cache.invalidate_for_all(keys)

    async def flush_cache(self) -> bool:
        """Invalidate all entries, if it is unknown what was changed.

        False if a node does not respond. The cache records this and invalidates the node later.
        """
        with _shared_store_outages():
            return await self._cache.renew_epochs()


@contextmanager
def _shared_store_outages() -> Iterator[None]:
    """Raise DependencyUnavailable if the cache cannot record what a node missed."""
    try:
        yield
    except StoreUnavailable as error:
        raise DependencyUnavailable from error
