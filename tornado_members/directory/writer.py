"""Write members to MongoDB, and invalidate their entries in the cache."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from tornado_members.directory.announcements import announced
from tornado_members.directory.cache import Cache
from tornado_members.directory.replacements import MemberReplacements
from tornado_members.directory.writer_turns import WriterTurns
from tornado_members.errors import (
    Fault,
    InvalidMember,
    MemberNotFound,
    NameTaken,
    PreconditionFailed,
    Problem,
    WriteConflict,
)
from tornado_members.member_entries import Representation, id_key, name_key, represent
from tornado_members.model.history import Actor
from tornado_members.model.member import Member, MemberDraft
from tornado_members.model.precondition import NO_CONDITION, Precondition
from tornado_members.storage.member_groups import MemberGroups
from tornado_members.storage.members import IdTaken, MemberStore

_MAX_ATTEMPTS = 100  # at a write whose member other writers change each time


class MemberWriter:
    """Writes members. If changes are recorded, `by` is the caller who makes the change."""

    def __init__(
        self, store: MemberStore, cache: Cache, groups: MemberGroups | None = None
    ) -> None:
        """Without `groups`, each member is written alone."""
        self._store = store
        self._cache = cache
        self._turns = WriterTurns()
        self._replacements = MemberReplacements(store, cache, groups)

    async def create(self, draft: MemberDraft, *, by: Actor | None = None) -> Representation:
        """Create a member. Raises NameTaken."""
        for _ in range(_MAX_ATTEMPTS):
            member_id = await self._store.take_ids()
            with suppress(IdTaken):
                async with announced(self._cache, id_key(member_id), name_key(draft.name)):
                    return represent(await self._store.insert(draft, member_id, by=by))
        raise WriteConflict

    async def replace(
        self,
        member_id: int,
        draft: MemberDraft,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> Representation:
        """Replace the fields of a member.

        Raises MemberNotFound, NameTaken, PreconditionFailed, WriteConflict.
        """
        for _ in range(_MAX_ATTEMPTS):
            async with self._turns.turn(member_id) as turns:
                member = turns.written = await self._replacements.replace(
                    member_id, draft, condition, by
                )
            if member is not None:
                return represent(member)
            await self._get_current(member_id, condition)
        raise WriteConflict

    async def patch(
        self,
        member_id: int,
        change: Callable[[Member], MemberDraft],
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> Representation:
        """Apply `change` to the current member, also if other writers change it meanwhile.

        Raises MemberNotFound, NameTaken, PreconditionFailed, WriteConflict, and what `change`
        raises.
        """
        for _ in range(_MAX_ATTEMPTS):
            async with self._turns.turn(member_id) as turns:
                written, turns.written = turns.written, None
                current, draft = await self._apply(written, member_id, change, condition)
                seen = Precondition(one_of=frozenset({current.version}))
                member = turns.written = await self._replacements.replace(
                    member_id, draft, seen, by, current
                )
            if member is not None:
                return represent(member)
        raise WriteConflict

    async def put_by_name(
        self,
        draft: MemberDraft,
        member_id: int | None = None,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> tuple[Representation, bool]:
        """Create the member with the draft's name, or replace its fields. True if it is new.

        Raises InvalidMember if `member_id` is given and is not the id of the member with this name;
        NameTaken if a document that is not a member holds the name; PreconditionFailed and
        WriteConflict.
        """
        for _ in range(_MAX_ATTEMPTS):
            existing = await self._store.find_by_name(draft.name)
            if member_id is not None and (existing is None or existing.member_id != member_id):
                raise InvalidMember(
                    [Fault("/memberId", "is not the id of the member of this name")]
                )
            if existing is None and condition.must_exist:
                raise PreconditionFailed
            if existing is None:
                try:
                    return await self.create(draft, by=by), True
                except NameTaken as taken:
                    if not taken.by_member:
                        raise
                    continue  # another writer was faster, and its member has the name
            _check(existing, condition)
            # If another program added the member, the cache may store that no member has the name.
            keys = id_key(existing.member_id), name_key(draft.name)
            async with self._turns.turn(existing.member_id), announced(self._cache, *keys):
                member = await self._store.replace_named(
                    existing.member_id, draft, condition, by=by
                )
            if member is not None:  # else another writer changed it
                return represent(member), False
        raise WriteConflict

    async def delete(
        self, member_id: int, condition: Precondition = NO_CONDITION, *, by: Actor | None = None
    ) -> None:
        """Delete a member. Raises MemberNotFound, PreconditionFailed, WriteConflict."""
        for _ in range(_MAX_ATTEMPTS):
            async with self._turns.turn(member_id), announced(self._cache, id_key(member_id)):
                if await self._store.delete(member_id, condition, by=by):
                    return
            await self._get_current(member_id, condition)
        raise WriteConflict

    async def _apply(
        self,
        written: Member | None,
        member_id: int,
        change: Callable[[Member], MemberDraft],
        condition: Precondition,
    ) -> tuple[Member, MemberDraft]:
        """Apply `change` to the member as it was just written, or else as it is in MongoDB.

        The first may be out of date, so only the second may be a reason to refuse the change.
        Raises MemberNotFound, PreconditionFailed, and what `change` raises.
        """
        # The time of a change is not known if it was made in a group.
        is_dated = condition.unmodified_since is not None
        if written and not is_dated and condition.allows(written.version, written.updated_at):
            with suppress(Problem):
                return written, change(written)
        current = await self._get_current(member_id, condition)
        return current, change(current)

    async def _get_current(self, member_id: int, condition: Precondition) -> Member:
        """Return the member in MongoDB if it meets the condition.

        Raises MemberNotFound, PreconditionFailed.
        """
        member = await self._store.find_member(member_id)
        if member is not None:
            _check(member, condition)
            return member
        if condition.must_exist:  # If-Match is false without a representation (RFC 9110 §13.1.1)
            raise PreconditionFailed
        raise MemberNotFound(str(member_id))

    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member | None]:
        """Return, by name, the members that have one of these names.

        None stands for a document that is not a member and holds the name.
        """
        return await self._store.find_by_names(names)

    async def take_ids(self, count: int) -> int:
        """Reserve `count` consecutive ids; return the first."""
        return await self._store.take_ids(count)

    async def create_many(
        self, drafts: Sequence[MemberDraft], first: int, *, by: Actor | None = None
    ) -> Sequence[Member | None]:
        """Create members with consecutive reserved ids.

        None stands for a draft whose name, or whose id, another document has.
        """
        keys = [id_key(member_id) for member_id in range(first, first + len(drafts))]
        async with announced(self._cache, *keys, *{name_key(draft.name) for draft in drafts}):
            return await self._store.insert_many(drafts, first, by=by)

    async def replace_if_unchanged(
        self, member: Member, draft: MemberDraft, *, by: Actor | None = None
    ) -> bool:
        """Replace the fields of a member whose name and version are still those that were read.

        False if another writer changed or deleted the member since.
        """
        seen = Precondition(one_of=frozenset({member.version}))
        async with announced(self._cache, id_key(member.member_id), name_key(draft.name)):
            replaced = await self._store.replace_named(member.member_id, draft, seen, by=by)
        return replaced is not None


def _check(member: Member, condition: Precondition) -> None:
    if not condition.allows(member.version, member.updated_at):
        raise PreconditionFailed
