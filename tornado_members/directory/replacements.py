"""Replace the fields of members, alone or in groups (groups.py)."""

import asyncio
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple

from tornado_members.directory.announcements import announced, announced_if_possible
from tornado_members.directory.cache import Cache
from tornado_members.directory.groups import Groups
from tornado_members.lease_cache.errors import NotAnnounced
from tornado_members.member_entries import id_key, name_key
from tornado_members.model.history import Actor
from tornado_members.model.member import Member, MemberDraft
from tornado_members.model.precondition import Precondition
from tornado_members.storage.member_groups import MemberGroups, Replacement
from tornado_members.storage.members import MemberStore


class _Replacement(NamedTuple):
    """New fields of a member, and the member as its writer has read it, if it has."""

    member_id: int
    draft: MemberDraft
    condition: Precondition
    read: Member | None


class MemberReplacements:
    """Replaces members. Writes of several members at once share what they send.

    In a group, MongoDB writes a member only if it is as it was read. A member that it does not
    write is then written alone: that decides whether the member is missing, a precondition fails,
    a name is taken, or another writer was faster. So each of these has one place in the code.
    """

    def __init__(self, store: MemberStore, cache: Cache, members: MemberGroups | None) -> None:
        """Without `members`, each member is written alone."""
        self._store = store
        self._cache = cache
        self._members = members
        self._groups = Groups(partial(self._replace_all, members)) if members else None

    async def replace(
        self,
        member_id: int,
        draft: MemberDraft,
        condition: Precondition,
        by: Actor | None,
        read: Member | None = None,
    ) -> Member | None:
        """Replace a member; None if no such member meets the condition.

        `read` is the member as the caller has just read it. The result may lack the time of the
        change. Raises NameTaken, DependencyUnavailable.
        """
        groups = self._groups
        if self._members is None or groups is None or not self._members.may_have(member_id):
            return await self._replace_alone(member_id, draft, condition, by)
        began = perf_counter()
        member = await groups.join(_Replacement(member_id, draft, condition, read))
        if member is not None:
            operations = self._store.mongo.operations
            operations.notify("MemberGroups.replace", perf_counter() - began)
            return member
        with groups.alone():
            return await self._replace_alone(member_id, draft, condition, by)

    async def _replace_alone(
        self, member_id: int, draft: MemberDraft, condition: Precondition, by: Actor | None
    ) -> Member | None:
        async with announced(self._cache, id_key(member_id), name_key(draft.name)):
            return await self._store.replace(member_id, draft, condition, by=by)

    async def _replace_all(
        self, members: MemberGroups, group: Sequence[_Replacement]
    ) -> list[Member | None]:
        """Replace members with one query and one command; None for one that was not replaced."""
        # A member has one request, unless the others missed their turn.
        first = {request.member_id: request for request in reversed(group)}
        ids = map(id_key, first)
        names = {name_key(request.draft.name) for request in first.values()}
        # A result of this query is only a guess, so it may come before the tombstones.
        reading = asyncio.create_task(_read(members, [*first.values()]))
        try:
            async with announced_if_possible(self._cache, *ids, *names):
                wanted = [
                    Replacement(member, request.draft, request.condition)
                    for request, member in zip(first.values(), await reading, strict=True)
                    if member and request.condition.allows(member.version, member.updated_at)
                ]
                replaced = await members.replace(wanted)
        except NotAnnounced:  # at one node, perhaps: each member may have others
            return [None] * len(group)
        finally:
            await _end(reading)
        results = {
            request.member.member_id: member
            for request, member in zip(wanted, replaced, strict=True)
        }
        return [
            results.get(request.member_id) if first[request.member_id] is request else None
            for request in group
        ]


async def _read(members: MemberGroups, group: Sequence[_Replacement]) -> list[Member | None]:
    """Return the members, of which some may be known."""
    unread = [request.member_id for request in group if request.read is None]
    found = iter(await members.find(unread) if unread else ())
    return [request.read or next(found) for request in group]


async def _end(reading: "asyncio.Task[list[Member | None]]") -> None:
    """End a query that is not needed any more."""
    if not reading.done():
        reading.cancel()
        await asyncio.wait([reading])
    if not reading.cancelled():
        reading.exception()  # else asyncio logs that it was never retrieved
