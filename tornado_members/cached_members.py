"""Looks several members up in the cache, for the fast path and for the handlers."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tornado_members.lease_cache.look_ups import HIT, Hit, LookUp, Miss
from tornado_members.member_entries import (
    MEMBER_KEY,
    MemberBatch,
    MemberEntries,
    MemberKeys,
    Representation,
    has_name,
    id_key,
    member_id_in,
    member_ids_of,
    name_key,
    represent_entry,
    represent_found,
    usable,
)
from tornado_members.model.names import normalize_name

LookUpMany = Callable[[Sequence[bytes]], Awaitable[Sequence[LookUp]]]
LookUpBodies = Callable[[MemberKeys, bytes], Awaitable[tuple[list[bytes], list[LookUp]]]]

CacheMiss = Miss  # the look-up of a member that the cache does not have, and may store

_MAX_NAMES = 4096  # whose ids are kept; about 1 MB

# The look-ups that a request passes on to its handler. Each request sets this first: a pipelined
# request is read in the task of the previous request, whose look-ups are older.
passed_on: ContextVar[dict[int, LookUp] | None] = ContextVar("passed_on", default=None)


# The members that a request addresses: one by its id or its name, or several by the keys of their
# entries, because their ids are seldom needed.
MemberSelector = int | str | MemberKeys


@dataclass(slots=True)
class CachedMembers:
    """The requested members that the cache has.

    `look_ups` has all ids, but `bodies` has the members of a batch, if all are hits.
    `named` has the cached members that were selected by name. The tags of entries that this process
    may use end with `schema`.
    """

    look_ups: Mapping[int, LookUp] = field(default_factory=dict)
    named: Mapping[str, Representation] = field(default_factory=dict)
    schema: bytes = b""
    bodies: list[bytes] = field(default_factory=list)

    def find(self, selector: MemberSelector) -> Representation | MemberBatch | CacheMiss | None:
        """Return a member, or a batch if the cache has an entry for each of its ids.

        Returns a CacheMiss for an id whose member the cache does not have, and may store; None for
        anything else.
        """
        if isinstance(selector, str):
            return self.named.get(selector)
        if isinstance(selector, int):
            look_up = self.look_ups.get(selector)
            if isinstance(look_up, Hit):
                if look_up.body is None or look_up.tag.endswith(self.schema):
                    return represent_found(selector, look_up)
                return look_up.if_rejected
            return look_up if isinstance(look_up, Miss) else None
        return self._find_batch(selector)

    def _find_batch(self, keys: MemberKeys) -> MemberBatch | None:
        if self.bodies:
            return MemberBatch(self.bodies, [], HIT)
        bodies, missing = [], []
        look_ups, schema = self.look_ups, self.schema
        for member_id in member_ids_of(keys):
            look_up = look_ups.get(member_id)
            if not isinstance(look_up, Hit):
                return None
            if look_up.body is None:
                missing.append(member_id)
            elif look_up.tag.endswith(schema):
                bodies.append(look_up.body)
            else:
                return None
        return MemberBatch(bodies, missing, HIT)

    @contextmanager
    def passed_on(self, selector: MemberSelector) -> Iterator[None]:
        """Make tasks that begin in this block reuse these look-ups instead of repeating them."""
        ids: Iterable[int] = ()
        if not isinstance(selector, str):
            ids = (selector,) if isinstance(selector, int) else member_ids_of(selector)
        look_ups = self.look_ups
        token = passed_on.set(
            {one: usable(look_ups[one], self.schema) for one in ids if one in look_ups}
        )
        try:
            yield
        finally:
            passed_on.reset(token)


def take_look_ups(member_ids: Iterable[int]) -> dict[int, LookUp]:
    """Remove and return the look-ups of these members that were passed on to this task."""
    look_ups = passed_on.get() or {}
    return {one: look_ups.pop(one) for one in member_ids if one in look_ups}


class CachedLookUps:
    """Looks members up in the cache."""

    def __init__(
        self, look_up: LookUpMany, look_up_bodies: LookUpBodies, entries: MemberEntries
    ) -> None:
        """Both functions look all keys up in one round trip per node."""
        self._look_up = look_up
        self._look_up_bodies = look_up_bodies
        self._entries = entries
        # Ids by name, which save a look-up: as in MemberDirectory.get_by_name(), the member's own
        # entry shows whether it still has the name.
        self._ids: dict[str, int] = {}

    async def find(self, selectors: Sequence[MemberSelector]) -> CachedMembers:
        """Look single members up in one round trip, or in two if a name was not seen before."""
        ids = [*{one for one in selectors if isinstance(one, int)}]
        names = {one for one in selectors if isinstance(one, str)}
        if names:
            return await self._find_with_names(ids, names)
        look_ups = await self._look_up([MEMBER_KEY % one for one in ids])
        return CachedMembers(dict(zip(ids, look_ups, strict=True)), schema=self._entries.schema)

    async def _find_with_names(self, ids: Sequence[int], names: set[str]) -> CachedMembers:
        found = await self._find_ids(ids, names)
        by_name = {one: member for one in names if (member := self._find_named(one, found))}
        look_ups = {member_id: found[id_key(member_id)] for member_id in ids}
        return CachedMembers(look_ups, by_name, self._entries.schema)

    async def find_batch(self, keys: MemberKeys) -> CachedMembers:
        """Look up the members of a batch, of which only the bodies are needed."""
        schema = self._entries.schema
        bodies, look_ups = await self._look_up_bodies(keys, schema)
        if bodies:
            return CachedMembers(schema=schema, bodies=bodies)
        by_id = dict(zip(member_ids_of(keys), look_ups, strict=True))
        return CachedMembers(by_id, schema=schema)

    async def _find_ids(self, ids: Iterable[int], names: set[str]) -> dict[bytes, LookUp]:
        """Look up these ids, and the ids of members with these names."""
        known = {*ids} | {self._ids[one] for one in names if one in self._ids}
        keys = {one: name_key(normalize_name(one)) for one in names if one not in self._ids}
        found = await self._look_up_by_key([*map(id_key, known), *keys.values()])
        further = set()
        for name, key in keys.items():
            look_up = found.get(key)
            entry = look_up.entry if isinstance(look_up, Hit) else None
            member_id = member_id_in(entry) if entry else None
            if member_id is not None:
                further.add(member_id)
                self._remember(name, member_id)
        further -= known
        if further:
            found |= await self._look_up_by_key([*map(id_key, further)])
        return found

    async def _look_up_by_key(self, keys: Sequence[bytes]) -> dict[bytes, LookUp]:
        return dict(zip(keys, await self._look_up(keys), strict=True))

    def _find_named(self, name: str, found: Mapping[bytes, LookUp]) -> Representation | None:
        """Return the member with this name; None if the cache does not have it."""
        member_id = self._ids.get(name)
        look_up = None if member_id is None else found.get(id_key(member_id))
        if member_id is None or not isinstance(look_up, Hit):
            return None
        entry = look_up.entry
        if entry is None or not has_name(entry, normalize_name(name)):
            del self._ids[name]  # the member was deleted or renamed
            return None
        return represent_entry(member_id, entry, HIT) if self._entries.is_usable(entry) else None

    def _remember(self, name: str, member_id: int) -> None:
        self._ids[name] = member_id
        if len(self._ids) > _MAX_NAMES:
            del self._ids[next(iter(self._ids))]
