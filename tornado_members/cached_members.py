"""Looks several members up in the cache, for the fast path and for the handlers."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tornado_members.lease_cache.look_ups import HIT, Hit, LookUp
from tornado_members.member_entries import (
    MemberBatch,
    MemberEntries,
    Representation,
    has_name,
    id_key,
    member_id_in,
    name_key,
    represent_entry,
)
from tornado_members.model.names import normalize_name

LookUpMany = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, LookUp]]]

_passed_on: ContextVar[dict[int, LookUp] | None] = ContextVar("_passed_on", default=None)


# What a request asks for: a member by its id or its name, or several by their ids.
Asked = int | str | tuple[int, ...]


@dataclass(slots=True)
class CachedMembers:
    """What the cache has of the members that were asked for.

    `look_ups` has all ids. `named` has the members whose name was asked for, if the cache has them.
    """

    look_ups: Mapping[int, LookUp] = field(default_factory=dict)
    named: Mapping[str, Representation] = field(default_factory=dict)

    def find(self, asked: Asked) -> Representation | MemberBatch | None:
        """Return a member, or a batch if the cache knows each of its ids; otherwise None."""
        if isinstance(asked, str):
            return self.named.get(asked)
        if isinstance(asked, int):
            look_up = self.look_ups.get(asked)
            entry = look_up.entry if isinstance(look_up, Hit) else None
            return represent_entry(asked, entry, HIT) if entry else None
        return self._find_batch(asked)

    def _find_batch(self, member_ids: Sequence[int]) -> MemberBatch | None:
        entries = {}
        for member_id in member_ids:
            look_up = self.look_ups.get(member_id)
            if not isinstance(look_up, Hit):
                return None
            entries[member_id] = look_up.entry
        return MemberBatch.of(entries, HIT)

    @contextmanager
    def passed_on(self, asked: Asked) -> Iterator[None]:
        """Let tasks that begin in this block read members without a second look at the cache."""
        ids = (asked,) if isinstance(asked, int) else () if isinstance(asked, str) else asked
        look_ups = self.look_ups
        token = _passed_on.set({one: look_ups[one] for one in ids if one in look_ups})
        try:
            yield
        finally:
            _passed_on.reset(token)


def take_look_ups(member_ids: Iterable[int]) -> dict[int, LookUp]:
    """Return the look-ups of these members that were passed on to this task, once."""
    passed_on = _passed_on.get() or {}
    return {one: passed_on.pop(one) for one in member_ids if one in passed_on}


async def look_up_members(
    look_up: LookUpMany, entries: MemberEntries, asked: Iterable[Asked]
) -> CachedMembers:
    """Look members up in the cache by `look_up`.

    The cache is asked once, and if there are names, a second time for the ids that they lead to.
    """
    ids, names = set[int](), dict[str, str]()
    for one in asked:
        if isinstance(one, int):
            ids.add(one)
        elif isinstance(one, str):
            names[one] = normalize_name(one)
        else:
            ids.update(one)
    found = await look_up([*map(id_key, ids), *map(name_key, names.values())])
    named = {one: _named_id(found.get(name_key(name))) for one, name in names.items()}
    further = {member_id for member_id in named.values() if member_id is not None} - ids
    if further:
        found = {**found, **await look_up([*map(id_key, further)])}
    by_name = {}
    for one, named_id in named.items():
        one_found = None if named_id is None else found.get(id_key(named_id))
        entry = one_found.entry if isinstance(one_found, Hit) else None
        # As in MemberDirectory.get_by_name(), the member itself says if it still has the name.
        if named_id and entry and entries.is_usable(entry) and has_name(entry, names[one]):
            by_name[one] = represent_entry(named_id, entry, HIT)
    return CachedMembers(
        {one: entries.usable(found[id_key(one)]) for one in ids if id_key(one) in found}, by_name
    )


def _named_id(look_up: LookUp | None) -> int | None:
    """Return the id that the entry of a name has; None if there is no such entry."""
    if not isinstance(look_up, Hit) or look_up.entry is None:
        return None
    return member_id_in(look_up.entry)
