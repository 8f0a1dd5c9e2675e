"""Looks several members up in the cache, for the fast path and for the handlers."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tornado_members.lease_cache.look_ups import HIT, Hit, LookUp
from tornado_members.member_entries import (
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


@dataclass(slots=True)
class CachedMembers:
    """Members that the cache has, by what was asked for: an id or a name.

    `others` says how members may be read that the cache does not have.
    """

    members: dict[int | str, Representation] = field(default_factory=dict)
    others: dict[int, LookUp] = field(default_factory=dict)

    @contextmanager
    def passed_on(self, asked: int | str) -> Iterator[None]:
        """Let tasks that begin in this block read a member without a second look at the cache."""
        look_up = self.others.get(asked) if isinstance(asked, int) else None
        token = _passed_on.set({asked: look_up} if look_up and isinstance(asked, int) else {})
        try:
            yield
        finally:
            _passed_on.reset(token)


def take_look_up(member_id: int) -> LookUp | None:
    """Return the look-up of a member that was passed on to this task, once."""
    return (_passed_on.get() or {}).pop(member_id, None)


async def look_up_members(
    look_up: LookUpMany, entries: MemberEntries, asked: Iterable[int | str]
) -> CachedMembers:
    """Look members up in the cache by `look_up`, each by its id or its name.

    The cache is asked once, and if there are names, a second time for the ids that they lead to.
    """
    ids, names = set[int](), dict[str, str]()
    for one in asked:
        if isinstance(one, int):
            ids.add(one)
        else:
            names[one] = normalize_name(one)
    found = await look_up([*map(id_key, ids), *map(name_key, names.values())])
    named = {one: _named_id(found.get(name_key(name))) for one, name in names.items()}
    further = {member_id for member_id in named.values() if member_id is not None} - ids
    if further:
        found = {**found, **await look_up([*map(id_key, further)])}
    cached = CachedMembers()
    for member_id in ids:
        one_found = found.get(id_key(member_id))
        if isinstance(one_found, Hit):
            if one_found.entry is not None and entries.is_usable(one_found.entry):
                cached.members[member_id] = represent_entry(member_id, one_found.entry, HIT)
        elif one_found is not None:
            cached.others[member_id] = one_found
    for one, named_id in named.items():
        one_found = None if named_id is None else found.get(id_key(named_id))
        entry = one_found.entry if isinstance(one_found, Hit) else None
        # As in MemberDirectory.get_by_name(), the member itself says if it still has the name.
        if named_id and entry and entries.is_usable(entry) and has_name(entry, names[one]):
            cached.members[one] = represent_entry(named_id, entry, HIT)
    return cached


def _named_id(look_up: LookUp | None) -> int | None:
    """Return the id that the entry of a name has; None if there is no such entry."""
    if not isinstance(look_up, Hit) or look_up.entry is None:
        return None
    return member_id_in(look_up.entry)
