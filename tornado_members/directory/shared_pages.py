"""Reads pages of lists from MongoDB. Callers at once share queries and commands."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final, TypeVar

from tornado_members.directory.cache import Cache
from tornado_members.directory.groups import Groups
from tornado_members.lease_cache.coalescing import SingleFlight
from tornado_members.model.list_query import ListQuery, MemberPage
from tornado_members.storage.members import MemberStore

T = TypeVar("T")

_UNDER_WAY: Final = 2  # commands; more would have fewer pages each
_PAGES: Final = 8  # of a command; more would save no more


class SharedPages:
    """Reads pages as JSON."""

    def __init__(self, store: MemberStore, cache: Cache) -> None:
        self._store = store
        self._cache = cache
        self._flights: SingleFlight[MemberPage] = SingleFlight()
        self._groups = Groups(self._read_all, most_under_way=_UNDER_WAY, largest=_PAGES)

    async def read(self, query: ListQuery) -> MemberPage:
        """Return at most `query.limit` members in order, beginning after `query.after`.

        Callers that request the same page at once share a query, as readers of one member do. They
        also share the result, and must not change it. Pages that differ share a command.
        """
        return await self._flights.run(repr(query).encode(), partial(self._read, query))

    async def _read(self, query: ListQuery) -> MemberPage:
        alone = partial(self._load, partial(self._store.page_json, query))
        if not self._store.page_groups.may_have(query):
            return await alone()
        began = perf_counter()
        page = await self._groups.join(query)
        if page is not None:
            self._store.mongo.operations.notify("MemberStore.page_json", perf_counter() - began)
            return page
        with self._groups.alone():
            return await alone()

    async def _read_all(self, queries: Sequence[ListQuery]) -> Sequence[MemberPage | None]:
        return await self._load(partial(self._store.page_groups.read, queries))

    async def _load(self, load: Callable[[], Awaitable[T]]) -> T:
        """Return what `load` reads from MongoDB, and from no deposed primary."""
        return await self._cache.load([], load)
