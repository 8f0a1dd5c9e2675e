"""Read members through the cache, by id and by name."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from tornado_members.cached_members import CachedLookUps, passed_on, take_look_ups
from tornado_members.directory.cache import Cache
from tornado_members.directory.shared_pages import SharedPages
from tornado_members.errors import MemberNotFound
from tornado_members.in_turns import map_in_turns
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.look_ups import HIT, Found, Hit, LookUp, Miss, NotHit
from tornado_members.member_entries import (
    MEMBER_KEY,
    MemberBatch,
    MemberEntries,
    Representation,
    has_name,
    id_key,
    keys_of_ids,
    member_id_in,
    member_id_of,
    name_entry,
    name_key,
    represent,
    represent_entry,
    represent_found,
    usable,
)
from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters, ListQuery, MemberPage
from tornado_members.model.member import Member
from tornado_members.model.names import normalize_name
from tornado_members.storage.members import MemberStore

T = TypeVar("T")
# Returns a member for each id; None if no member has it.
FindMany = Callable[[Sequence[int]], Awaitable[Sequence[Member | None]]]

# Cache-Status (RFC 9211 §2) of reads that the cache did not answer.
_ON_REQUEST = "fwd=request"
_REJECTED = "fwd=bypass; detail=rejected"
_PARTIAL = "fwd=partial; detail=%d/%d"  # hits among the members of a batch
_FEW = 16  # members, whose look-up shares a request with other reads
# A name that moves to another member at each look-up is read from the database.
_MAX_REJECTIONS = 3


class MemberReader:
    """Reads members. Lists are read from MongoDB."""

    def __init__(self, store: MemberStore, cache: Cache, fields: FieldTable) -> None:
        self._store = store
        self._cache = cache
        self._entries = MemberEntries(fields)
        self._look_ups = CachedLookUps(cache.look_up, cache.look_up_bodies, self._entries)
        # Looks members up in the cache, by id or by name. MongoDB is not read. The caller counts
        # the hits that it serves.
        self.get_cached = self._look_ups.find
        self.get_cached_batch = self._look_ups.find_batch
        self._pages = SharedPages(store, cache)
        self.page_json = self._pages.read

    async def get(self, member_id: int, *, no_cache: bool = False) -> Representation:
        """Return the member with this id. `no_cache` reads MongoDB. Raises MemberNotFound."""
        found = await self._find(member_id, no_cache=no_cache)
        member = represent_found(member_id, found)
        if member is None:
            raise MemberNotFound(str(member_id), cache_status=found.status)
        return member

    async def get_if_named(
        self, member_id: int, name: str, *, no_cache: bool = False
    ) -> Representation | None:
        """Return the member with this id if it has this name. No other member is looked up."""
        found = await self._find(member_id, no_cache=no_cache)
        entry = found.entry
        if entry is None or not has_name(entry, normalize_name(name)):
            return None
        return represent_entry(member_id, entry, found.status)

    async def _find(self, member_id: int, *, no_cache: bool) -> Found | Hit:
        if no_cache:
            load = partial(self._load, member_id)
            return Found(await self._load_past_cache([id_key(member_id)], load), _ON_REQUEST)
        return await self._read(member_id)

    async def _load_past_cache(self, keys: Sequence[bytes], load: Callable[[], Awaitable[T]]) -> T:
        """Return what `load` reads from MongoDB, whatever the cache has under the keys."""
        return await self._cache.load(keys, load)

    def load_missed(self, misses: Mapping[int, Miss]) -> Awaitable[Mapping[bytes, Found]]:
        """Load members that the cache has missed, with one query, and let the cache store them.

        Returns what was found by the keys of the members' entries. Leaves out members that another
        caller is about to store: a reader of them should wait for that.
        """
        return self._fill(misses, self._store.find_members, unless_read=True)

    async def get_many(self, member_ids: Sequence[int], *, no_cache: bool = False) -> MemberBatch:
        """Return the members with these ids, which are valid and distinct, in this order.

        Each has the guarantee of a single read; together they are not a snapshot. `no_cache` reads
        MongoDB.
        """
        if no_cache:
            load = partial(self._load_many, member_ids, self._store.find_many)
            loaded = await self._load_past_cache([*map(id_key, member_ids)], load)
            return MemberBatch.of(dict(zip(member_ids, loaded, strict=True)), _ON_REQUEST)
        look_ups = take_look_ups(member_ids)
        if not look_ups and len(member_ids) > _FEW:
            cached = await self.get_cached_batch(keys_of_ids(member_ids))
            if cached.bodies:
                self._cache.counts.hits += len(cached.bodies)
                return MemberBatch(cached.bodies, [], HIT)
            schema = self._entries.schema
            look_ups = {one: usable(found, schema) for one, found in cached.look_ups.items()}
        look_ups |= await self._look_up([one for one in member_ids if one not in look_ups])
        entries = {one: hit.entry for one, hit in look_ups.items() if isinstance(hit, Hit)}
        hits = len(entries)
        self._cache.counts.hits += hits
        others = {one: other for one, other in look_ups.items() if not isinstance(other, Hit)}
        filled = await self._fill(others, self._store.find_many)
        for key, found in filled.items():
            entries[member_id_of(key)] = found.entry
            hits += found.status == HIT
        status = HIT if hits == len(entries) else _PARTIAL % (hits, len(entries))
        return MemberBatch.of({one: entries[one] for one in member_ids}, status)

    async def _look_up(self, member_ids: Sequence[int]) -> dict[int, LookUp]:
        if not member_ids:
            return {}
        look_ups = await self._cache.look_up([MEMBER_KEY % one for one in member_ids])
        schema = self._entries.schema
        usable_ones = [usable(one, schema) for one in look_ups]
        return dict(zip(member_ids, usable_ones, strict=True))

    def _fill(
        self, look_ups: Mapping[int, NotHit], find: FindMany, *, unless_read: bool = False
    ) -> Awaitable[Mapping[bytes, Found]]:
        """Load members that were looked up, with one call of `find`; let the cache store them.

        `unless_read` and the result are those of Cache.fill.
        """
        ids = {MEMBER_KEY % member_id: member_id for member_id in look_ups}

        def load(keys: Sequence[bytes]) -> Awaitable[Sequence[Entry | None]]:
            return self._load_many([ids[key] for key in keys], find)

        by_key = dict(zip(ids, look_ups.values(), strict=True))
        return self._cache.fill(by_key, load, unless_read=unless_read)

    async def _load_many(self, member_ids: Sequence[int], find: FindMany) -> Sequence[Entry | None]:
        members = await find(member_ids)
        if len(members) == 1:  # the usual case, in fewer steps
            return [self._entries.of_member(members[0])]
        return await map_in_turns(self._entries.of_member, members)

    async def get_by_name(self, name: str, *, no_cache: bool = False) -> Representation:
        """Return the member with this name. `no_cache` reads MongoDB. Raises MemberNotFound."""
        name = normalize_name(name)
        rejected = None
        for _ in range(0 if no_cache else _MAX_REJECTIONS):
            named = await self._read_name(name, rejected)
            rejected = named.entry
            if rejected is None:
                raise MemberNotFound("of this name", cache_status=named.status)
            if isinstance(rejected.source, Member):  # it was loaded just now
                return represent(rejected.source, named.status)
            member_id = member_id_in(rejected)
            if member_id is None:
                continue
            found = await self._read(member_id)
            entry = found.entry
            if entry is not None and has_name(entry, name):
                return represent_entry(member_id, entry, found.status)
            # else that member was renamed or deleted
        status = _ON_REQUEST if no_cache else _REJECTED
        find = partial(self._store.find_by_name, name)
        member = await self._load_past_cache([name_key(name)], find)
        if member is None:
            raise MemberNotFound("of this name", cache_status=status)
        return represent(member, status)

    async def _read_name(self, name: str, rejected: Entry | None) -> Found:
        async def load() -> Entry | None:
            return name_entry(await self._store.find_by_name(name))

        return await self._cache.read(name_key(name), load, rejected=rejected)

    async def _read(self, member_id: int) -> Found | Hit:
        look_up = (passed_on.get() or {}).pop(member_id, None)
        if look_up is None:
            (stored,) = await self._cache.look_up([MEMBER_KEY % member_id])
            look_up = usable(stored, self._entries.schema)
        if isinstance(look_up, Hit):
            self._cache.counts.hits += 1
            return look_up
        key, load = id_key(member_id), partial(self._load, member_id)
        found = await self._cache.read(key, load, look_up=look_up)
        if not self._entries.is_usable(found.entry):
            found = await self._cache.read(key, load, rejected=found.entry)
            if not self._entries.is_usable(found.entry):
                # A process with other fields was faster.
                return Found(await self._cache.load([key], load), _REJECTED)
        return found

    async def _load(self, member_id: int) -> Entry | None:
        return self._entries.of_member(await self._store.find_member(member_id))

    async def page(self, query: ListQuery) -> list[Member]:
        """Return at most `query.limit` members in order, beginning after `query.after`."""
        return await self._load_past_cache([], partial(self._store.page, query))

    async def page_lines(self, query: ListQuery) -> MemberPage:
        """Return the same page as lines of JSON, for exports, which rarely share a page."""
        return await self._load_past_cache([], partial(self._store.page_lines, query))

    async def count(self, filters: Filters) -> int:
        """Count the members that match. MongoDB scans one index key for each."""
        return await self._load_past_cache([], partial(self._store.count, filters))
