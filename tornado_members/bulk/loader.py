"""Loads members in batches: takes ids in blocks, writes many at once, reports one outcome each."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from tornado_members.bulk.id_set import IdSet
from tornado_members.errors import WriteConflict
from tornado_members.model.history import Actor
from tornado_members.model.member import Member, MemberDraft

OnConflict = Literal["reject", "skip", "replace"]

BATCH = 500
_CONCURRENT_REPLACEMENTS = 32
_MAX_ATTEMPTS = 100  # while other writers change members between the look-up and the write


class Result(StrEnum):
    """The result of loading one member."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"  # the member existed with the same contents
    SKIPPED = "skipped"  # another member has the name, and the caller chose to skip
    TAKEN = "taken"  # another member has the name, which is an error


_LOADED = (Result.CREATED, Result.REPLACED, Result.UNCHANGED)


class Outcome(NamedTuple):
    """The result for one draft, and the id of the member that has its name now.

    The id is None if a document that is not a member holds the name.
    """

    result: Result
    member_id: int | None
    twice: bool = False  # an earlier draft of the same source loaded that member


class Directory(Protocol):
    """The part of a MemberDirectory that a loader uses; a dry run has its own."""

    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member | None]: ...
    async def take_ids(self, count: int) -> int: ...
    async def create_many(
        self, drafts: Sequence[MemberDraft], first: int, *, by: Actor | None
    ) -> Sequence[Member | None]: ...
    async def replace_if_unchanged(
        self, member: Member, draft: MemberDraft, *, by: Actor | None
    ) -> bool: ...


class Loader:
    """Loads the members of one source, batch by batch, and remembers which members it has loaded.

    A name that occurs twice in the source stands for two people: the first is loaded, and the
    second never replaces it. So loading the same source again changes nothing.

    Fields that a draft does not set keep their values: a source without telephone numbers replaces
    a member and leaves its number alone. They are taken from the member as it was looked up, so
    each replacement is conditional on that version. If another writer changed the member first, the
    loader looks it up again.
    """

    def __init__(
        self, directory: Directory, on_conflict: OnConflict, by: Actor | None = None
    ) -> None:
        """`by` is recorded as the author of the changes."""
        self._by = by
        self._directory = directory
        self._on_conflict = on_conflict
        self._loaded = IdSet()
        # Writes that unfinished batches have sent, by member id. If a batch fails half-way and is
        # loaded again, a member that agrees with its draft was written by the first attempt.
        self._begun: dict[int, Result] = {}
        self._taking_ids = asyncio.Lock()  # so that ids follow the order of the batches

    async def load(self, drafts: Sequence[MemberDraft]) -> list[Outcome]:
        """Load one batch; return an outcome for each draft, in order.

        Other batches may be loaded at the same time if they have none of these names.

        Raises DependencyUnavailable and WriteConflict; a part of the batch may then have been
        loaded. Loading the same batch again yields the outcomes of the interrupted attempt.
        """
        outcomes: dict[int, Outcome] = {}
        loaded: set[int] = set()
        left: Mapping[int, MemberDraft] = dict(enumerate(drafts))
        for _ in range(_MAX_ATTEMPTS):
            lost = await self._attempt(left, loaded, outcomes)
            left = {i: draft for i, draft in left.items() if draft.name in lost}
            if not left:
                for member_id in loaded:
                    self._loaded.add(member_id)
                for outcome in outcomes.values():
                    self._begun.pop(outcome.member_id or 0, None)
                return [outcomes[i] for i in range(len(drafts))]
        raise WriteConflict

    async def _attempt(
        self, drafts: Mapping[int, MemberDraft], loaded: set[int], outcomes: dict[int, Outcome]
    ) -> set[str]:
        """Load these drafts; return the names of members that changed before the write."""
        owners = await self._find_or_create([*drafts.values()])
        replacing: list[tuple[Member, MemberDraft]] = []
        seen: set[int] = set()
        for i, given in drafts.items():
            owner = owners[given.name]
            if owner is None:
                outcomes[i] = Outcome(self._refusal, None)
                continue
            member_id = owner.member_id
            twice = member_id in seen or member_id in loaded or member_id in self._loaded
            draft = given
            if not twice and self._begun.get(member_id) is Result.CREATED:
                result = Result.CREATED
            else:
                draft = given.completed_by(owner)
                result = self._decide(draft, owner, twice)
            if result in _LOADED:
                seen.add(member_id)
            if result is Result.REPLACED and not owner.agrees_with(draft):
                replacing.append((owner, draft))
                self._begun[member_id] = result
            outcomes[i] = Outcome(result, member_id, twice)
        lost = await self._replace(replacing)
        for member_id in lost:
            del self._begun[member_id]
        loaded |= seen - lost
        return {owner.name for owner, _ in replacing if owner.member_id in lost}

    async def _find_or_create(self, drafts: Sequence[MemberDraft]) -> dict[str, Member | None]:
        """Return the members that have the names, including those that are new.

        None stands for a document that is not a member and holds the name.
        """
        firsts: dict[str, MemberDraft] = {}
        for draft in drafts:
            firsts.setdefault(draft.name, draft)
        owners: dict[str, Member | None] = {}
        for _ in range(_MAX_ATTEMPTS):
            missing = [name for name in firsts if name not in owners]
            # A task, so that a batch looks up its names while the one before it takes its ids.
            finding = asyncio.ensure_future(self._directory.find_by_names(missing))
            async with self._taking_ids:
                owners.update(await finding)
                new = [draft for name, draft in firsts.items() if name not in owners]
                if not new:
                    return owners
                first = await self._directory.take_ids(len(new))
            self._begun.update(dict.fromkeys(range(first, first + len(new)), Result.CREATED))
            created = await self._directory.create_many(new, first, by=self._by)
            owners.update({member.name: member for member in created if member})
            # Other writers took the remaining names between the look-up and the insertion.
        raise WriteConflict

    def _decide(self, draft: MemberDraft, owner: Member, twice: bool) -> Result:
        """Return the result for a draft whose name has an owner by now."""
        if not twice:
            if owner.agrees_with(draft):
                return self._begun.get(owner.member_id) or Result.UNCHANGED
            if self._on_conflict == "replace":
                return Result.REPLACED
        return self._refusal

    @property
    def _refusal(self) -> Result:
        """The result of a draft whose name is taken."""
        return Result.SKIPPED if self._on_conflict == "skip" else Result.TAKEN

    async def _replace(self, replacing: Iterable[tuple[Member, MemberDraft]]) -> set[int]:
        """Write the drafts; return the ids of members that another writer changed first."""
        slots = asyncio.Semaphore(_CONCURRENT_REPLACEMENTS)
        lost: set[int] = set()

        async def replace(member: Member, draft: MemberDraft) -> None:
            async with slots:
                if not await self._directory.replace_if_unchanged(member, draft, by=self._by):
                    lost.add(member.member_id)

        writes = [replace(member, draft) for member, draft in replacing]
        # Wait for all of them, so that none is left running when one fails.
        for done in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done
        return lost
