"""Members by the thousand: ids in blocks, writes in batches, and what became of each one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from tornado_members.errors import Contended
from tornado_members.loading.id_set import IdSet
from tornado_members.member import Member, MemberDraft

OnConflict = Literal["reject", "skip", "replace"]

BATCH = 500
_CONCURRENT_REPLACEMENTS = 32
_MOST_ATTEMPTS = 100  # at names that others take and give up again


class Result(StrEnum):
    """What became of one member."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"  # it was there already, just so
    SKIPPED = "skipped"  # the name is another member's, and that is fine
    TAKEN = "taken"  # the name is another member's, and that is not


_LOADED = (Result.CREATED, Result.REPLACED, Result.UNCHANGED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one member, and the id of the member that has its name now."""

    result: Result
    member_id: int
    twice: bool = False  # the name stands twice in the source, and that member is the other one


class Directory(Protocol):
    """MemberDirectory, or Rehearsal."""

    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member]: ...
    async def take_ids(self, count: int) -> int: ...
    async def create_many(
        self, drafts: Sequence[MemberDraft], first: int
    ) -> Sequence[Member | None]: ...
    async def put_by_name(self, draft: MemberDraft) -> object: ...


class Loader:
    """Loads the members of one source, batch after batch, and remembers which it has loaded.

    A name that stands twice in the source is two people with one name: the first is loaded, and
    the second never replaces it. So the same source, loaded again, changes nothing.

    What a draft does not set is not its matter: a source without telephone numbers replaces a
    member and leaves its number as it is.
    """

    def __init__(self, directory: Directory, on_conflict: OnConflict) -> None:
        self._directory = directory
        self._on_conflict = on_conflict
        self._loaded = IdSet()
        # What this batch has begun to do, under which ids. Should it fail half-way, and be loaded
        # again, then what is found done was done by the first attempt.
        self._begun: dict[int, Result] = {}

    async def load(self, drafts: Sequence[MemberDraft]) -> list[Outcome]:
        """Load one batch; an outcome each, in order.

        Raises DependencyAway and Contended; some of the batch may then have been loaded. The same
        batch may be loaded again, and has the outcomes that it would have had.
        """
        owners = await self._find_or_create(drafts)
        outcomes: list[Outcome] = []
        loaded: set[int] = set()
        replacing: list[MemberDraft] = []
        for given in drafts:
            owner = owners[given.name]
            draft = _completed(given, owner)
            twice = owner.member_id in loaded or owner.member_id in self._loaded
            result = self._settle(draft, owner, twice)
            if result in _LOADED:
                loaded.add(owner.member_id)
            if result is Result.REPLACED and not owner.agrees_with(draft):
                replacing.append(draft)
                self._begun[owner.member_id] = result
            outcomes.append(Outcome(result, owner.member_id, twice))
        await self._replace(replacing)
        for member_id in loaded:
            self._loaded.add(member_id)
        self._begun.clear()
        return outcomes

    async def _find_or_create(self, drafts: Sequence[MemberDraft]) -> dict[str, Member]:
        """The members that have the names, those that are new included."""
        firsts = {draft.name: draft for draft in reversed(drafts)}
        owners: dict[str, Member] = {}
        for _ in range(_MOST_ATTEMPTS):
            missing = [name for name in firsts if name not in owners]
            owners.update(await self._directory.find_by_names(missing) if missing else {})
            new = [draft for draft in drafts if draft.name not in owners]
            new = [draft for draft in new if firsts[draft.name] is draft]
            if not new:
                return owners
            first = await self._directory.take_ids(len(new))
            self._begun.update(dict.fromkeys(range(first, first + len(new)), Result.CREATED))
            created = await self._directory.create_many(new, first)
            owners.update({member.name: member for member in created if member})
            # Somebody took the others' names just now.
        raise Contended

    def _settle(self, draft: MemberDraft, owner: Member, twice: bool) -> Result:
        """What becomes of a draft, whose name has an owner by now."""
        if not twice:
            begun = self._begun.get(owner.member_id)
            if begun is Result.CREATED:
                return Result.CREATED
            if owner.agrees_with(draft):
                return begun or Result.UNCHANGED
            if self._on_conflict == "replace":
                return Result.REPLACED
        return Result.SKIPPED if self._on_conflict == "skip" else Result.TAKEN

    async def _replace(self, drafts: Sequence[MemberDraft]) -> None:
        slots = asyncio.Semaphore(_CONCURRENT_REPLACEMENTS)

        async def replace(draft: MemberDraft) -> None:
            async with slots:
                await self._directory.put_by_name(draft)

        # None is left running when one of them fails.
        done = await asyncio.gather(*map(replace, drafts), return_exceptions=True)
        for failure in done:
            if isinstance(failure, BaseException):
                raise failure


def _completed(draft: MemberDraft, owner: Member) -> MemberDraft:
    """A draft with what it does not set taken over from the member of its name."""
    missing = MemberDraft.model_fields.keys() - draft.model_fields_set
    if not missing:
        return draft
    return draft.model_copy(update={field: getattr(owner, field) for field in missing})
