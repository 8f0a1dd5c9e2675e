"""Members by the thousand: ids in blocks, writes in batches, and what became of each one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from tornado_members.audit import Actor
from tornado_members.directory import MemberDirectory
from tornado_members.member import Member, MemberDraft

OnConflict = Literal["reject", "skip", "replace"]

BATCH = 500
_CONCURRENT_REPLACEMENTS = 32


class Result(StrEnum):
    """What became of one member."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"  # it was there already, just so
    SKIPPED = "skipped"  # the name is another member's, and that is fine
    TAKEN = "taken"  # the name is another member's, and that is not


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one member, and the id of the member that has its name now."""

    result: Result
    member_id: int
    twice: bool = False  # the name stands twice in the source, and that member is the other one


class Loader:
    """Loads the members of one source, batch after batch, and remembers which it has loaded.

    A name that stands twice in the source is two people with one name: the first is loaded, and
    the second never replaces it. So the same source, loaded again, changes nothing.

    What a draft does not set is not its matter: a source without telephone numbers replaces a
    member and leaves its number as it is.
    """

    def __init__(
        self, directory: MemberDirectory, on_conflict: OnConflict, by: Actor | None = None
    ) -> None:
        """`by` is whoever loads them, for the record."""
        self._by = by
        self._directory = directory
        self._on_conflict = on_conflict
        self._loaded: set[int] = set()  # ids; a million of them take some 60 MB

    async def load(self, drafts: Sequence[MemberDraft]) -> list[Outcome]:
        """Load one batch; an outcome each, in order.

        Raises DependencyAway; some of the batch may then have been loaded, and may be loaded again.
        """
        names = [draft.name for draft in drafts]
        owners = await self._directory.find_by_names(names)
        # Of those that bear one new name, the first is created; a dict keeps their order.
        new = {d.name: d for d in reversed(drafts) if d.name not in owners}
        firsts = [draft for draft in drafts if new.get(draft.name) is draft]
        created = dict(zip(map(id, firsts), await self._create(firsts), strict=True))
        outcomes: list[Outcome] = []
        replacing: list[MemberDraft] = []
        for draft in drafts:
            if member := created.get(id(draft)):
                owners[draft.name] = member
                outcome = Outcome(Result.CREATED, member.member_id)
            elif draft.name in owners:
                draft = _completed(draft, owners[draft.name])  # noqa: PLW2901
                outcome = self._settle(draft, owners[draft.name])
            else:  # somebody took the name just now
                outcome = (await self.load([draft]))[0]
            if outcome.result is Result.REPLACED:
                replacing.append(draft)
            if outcome.result in (Result.CREATED, Result.REPLACED, Result.UNCHANGED):
                self._loaded.add(outcome.member_id)
            outcomes.append(outcome)
        await self._replace(replacing)
        return outcomes

    async def _create(self, drafts: Sequence[MemberDraft]) -> list[Member | None]:
        return await self._directory.create_many(drafts, by=self._by) if drafts else []

    def _settle(self, draft: MemberDraft, owner: Member) -> Outcome:
        """What becomes of a draft whose name has an owner."""
        twice = owner.member_id in self._loaded
        if not twice:
            if owner.agrees_with(draft):
                return Outcome(Result.UNCHANGED, owner.member_id)
            if self._on_conflict == "replace":
                return Outcome(Result.REPLACED, owner.member_id)
        skips = self._on_conflict == "skip"
        return Outcome(Result.SKIPPED if skips else Result.TAKEN, owner.member_id, twice)

    async def _replace(self, drafts: Sequence[MemberDraft]) -> None:
        slots = asyncio.Semaphore(_CONCURRENT_REPLACEMENTS)

        async def replace(draft: MemberDraft) -> None:
            async with slots:
                await self._directory.put_by_name(draft, by=self._by)

        await asyncio.gather(*map(replace, drafts))


def _completed(draft: MemberDraft, owner: Member) -> MemberDraft:
    """A draft with what it does not set taken over from the member of its name."""
    missing = MemberDraft.model_fields.keys() - draft.model_fields_set
    return draft.model_copy(update={field: getattr(owner, field) for field in missing})
