"""What the product does: keep members, and say who they are."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tornado_members.cache.naive import Entry, NaiveCache
from tornado_members.errors import Fault, MemberNotFound, NameTaken, NotAMember
from tornado_members.member import MAX_MEMBER_ID, Member, MemberDraft, SortField, normalize_name
from tornado_members.storage.changes import Change
from tornado_members.storage.members import MemberStore


@dataclass(frozen=True, slots=True)
class Representation:
    """A member as it is answered: its version, and the bytes of its body."""

    member_id: int
    version: int
    body: bytes


class MemberDirectory:
    """Reads by id go through the cache; a write removes from the cache before it is answered.

    Everything raises DependencyAway when the database is needed and does not answer.
    """

    def __init__(self, store: MemberStore, cache: NaiveCache) -> None:
        self._store = store
        self._cache = cache

    async def get(self, member_id: int) -> Representation:
        """The member with this id. Raises MemberNotFound."""
        _check_id(member_id)

        async def load() -> Entry:
            member = await self._store.find_member(member_id)
            if member is None:
                raise MemberNotFound(str(member_id))
            return Entry(member.version, member.to_json())

        entry = await self._cache.read(_key(member_id), load)
        return Representation(member_id, entry.version, entry.body)

    async def get_by_name(self, name: str) -> Representation:
        """The member with this name. Raises MemberNotFound."""
        member = await self._store.find_by_name(normalize_name(name))
        if member is None:
            raise MemberNotFound("of this name")
        return _represent(member)

    async def page(
        self, field: SortField, *, descending: bool, after: int | str | None, limit: int
    ) -> list[Member]:
        """At most `limit` members, in the order of `field`, behind the one at `after`."""
        return await self._store.page(field, descending=descending, after=after, limit=limit)

    async def create(self, draft: MemberDraft) -> Representation:
        """Add a member. Raises NameTaken."""
        return _represent(await self._store.insert(draft))

    async def replace(self, member_id: int, draft: MemberDraft) -> Representation:
        """Give a member new contents. Raises MemberNotFound, NameTaken."""
        _check_id(member_id)
        try:
            member = await self._store.replace(member_id, draft)
        finally:  # also where the outcome is unknown: it may have been written
            await self._cache.forget(_key(member_id))
        if member is None:
            raise MemberNotFound(str(member_id))
        return _represent(member)

    async def put_by_name(
        self, draft: MemberDraft, member_id: int | None = None
    ) -> tuple[Representation, bool]:
        """Create the member with the draft's name, or give it new contents; True if it is new.

        Where `member_id` is given, only the member that has that id is meant: NotAMember if it
        does not bear the name.
        """
        while True:
            existing = await self._store.find_by_name(draft.name)
            if member_id is not None and (existing is None or existing.member_id != member_id):
                raise NotAMember([Fault("/memberId", "is not the id of the member of this name")])
            with suppress(NameTaken):  # somebody else was faster: replace theirs
                if existing is None:
                    return _represent(await self._store.insert(draft)), True
            if existing is not None:
                member = await self._replace_named(existing.member_id, draft)
                if member is not None:  # else it was renamed or removed meanwhile: create it
                    return _represent(member), False

    async def delete(self, member_id: int) -> None:
        """Remove a member for good. Raises MemberNotFound."""
        _check_id(member_id)
        try:
            existed = await self._store.delete(member_id)
        finally:
            await self._cache.forget(_key(member_id))
        if not existed:
            raise MemberNotFound(str(member_id))

    async def forget_changed(self, changes: Sequence[Change]) -> None:
        """Have nothing cached that was read before these changes."""
        for change in changes:
            await self._cache.forget(_key(change.member_id))

    async def forget_everything(self) -> None:
        """Have nothing cached that was read before now."""
        await self._cache.forget_everything()

    async def _replace_named(self, member_id: int, draft: MemberDraft) -> Member | None:
        try:
            return await self._store.replace_named(member_id, draft)
        finally:
            await self._cache.forget(_key(member_id))

    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member]:
        """The members that have these names, for a loader of many."""
        return await self._store.find_by_names(names)

    async def create_many(self, drafts: Sequence[MemberDraft]) -> list[Member | None]:
        """Add members under ids in a row; None stands where the name was taken."""
        return await self._store.insert_many(drafts)


def _key(member_id: int) -> bytes:
    return b"member:%d" % member_id


def _check_id(member_id: int) -> None:
    if not 1 <= member_id <= MAX_MEMBER_ID:
        raise MemberNotFound(str(member_id))


def _represent(member: Member) -> Representation:
    return Representation(member.member_id, member.version, member.to_json())
