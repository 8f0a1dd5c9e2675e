"""The directory of members: reads go through the cache, and writes invalidate it."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Protocol

from tornado_members.cached_members import Asked, CachedLookUps, CachedMembers, take_look_ups
from tornado_members.errors import (
    DependencyUnavailable,
    Fault,
    InvalidMember,
    MemberNotFound,
    NameTaken,
    PreconditionFailed,
    Problem,
    WriteConflict,
)
from tornado_members.lease_cache.cache import AnnouncedWrite
from tornado_members.lease_cache.coalescing import SingleFlight
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.errors import LedgerUnavailable, NotAnnounced
from tornado_members.lease_cache.fills import LoadMany
from tornado_members.lease_cache.look_ups import HIT, Found, Hit, LookUp, NotHit
from tornado_members.member_entries import (
    MemberBatch,
    MemberEntries,
    Representation,
    has_name,
    id_key,
    member_id_in,
    name_entry,
    name_key,
    represent,
    represent_entry,
    usable,
)
from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Actor, Position, Record
from tornado_members.model.list_query import Filters, ListQuery, PageLines
from tornado_members.model.member import MAX_MEMBER_ID, MEMBER_FIELDS, Member, MemberDraft
from tornado_members.model.names import normalize_name
from tornado_members.model.precondition import NO_CONDITION, Precondition
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.changes import Change
from tornado_members.storage.members import IdTaken, MemberStore
from tornado_members.storage.write_window import write_window
from tornado_members.writer_turns import WriterTurns

# Cache-Status (RFC 9211 §2) of reads that the cache did not answer.
_ON_REQUEST = "fwd=request"
_REJECTED = "fwd=bypass; detail=rejected"
_PARTIAL = "fwd=partial; detail=%d/%d"  # hits among the members of a batch
# A name that moves to another member at each look-up is read from the database.
_MAX_REJECTIONS = 3
_MAX_ATTEMPTS = 100  # at a write whose member other writers change each time


class Cache(Protocol):
    """The methods of LeaseCache that the directory and services.py use."""

    counts: CacheCounts

    async def open(self) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102
    async def read(  # noqa: D102
        self,
        key: bytes,
        load: Callable[[], Awaitable[Entry | None]],
        *,
        rejected: Entry | None = None,
        look_up: LookUp | None = None,
    ) -> Found: ...
    async def look_up(self, keys: Sequence[bytes]) -> Mapping[bytes, LookUp]: ...  # noqa: D102
    async def fill(  # noqa: D102
        self, look_ups: Mapping[bytes, NotHit], load: LoadMany
    ) -> Mapping[bytes, Found]: ...
    def changing(  # noqa: D102
        self, *keys: bytes
    ) -> AbstractAsyncContextManager[AnnouncedWrite]: ...
    def states(self) -> Mapping[str, str | None]: ...  # noqa: D102
    def list_conflict(self) -> str | None: ...  # noqa: D102
    async def invalidate(self, keys: Iterable[bytes]) -> bool: ...  # noqa: D102
    async def invalidate_for_all(self, keys: Iterable[bytes]) -> None: ...  # noqa: D102
    async def renew_epochs(self) -> bool: ...  # noqa: D102


class MemberDirectory:
    """Members by id and by name.

    The cache has one entry per member and one per name. The entry of a name has the id of the
    member, and a read checks that the member still has the name. So a write invalidates the entries
    of the member and of its new name; that of its old name may stay.

    If changes are recorded, `by` is the caller who makes the change. All methods raise
    DependencyUnavailable if they need MongoDB and it does not respond.
    """

    def __init__(
        self,
        store: MemberStore,
        cache: Cache,
        audit: AuditLog | None = None,
        fields: FieldTable = MEMBER_FIELDS,
    ) -> None:
        """`audit` reads what the store records, if it records changes."""
        self._store = store
        self._cache = cache
        self._audit = audit
        self._entries = MemberEntries(fields)
        self._look_ups = CachedLookUps(cache.look_up, self._entries)
        self._turns = WriterTurns()
        self._pages: SingleFlight[list[Member]] = SingleFlight()

    @property
    def cache_counts(self) -> CacheCounts:
        """The counters of the cache, for metrics."""
        return self._cache.counts

    def cache_states(self) -> Mapping[str, str | None]:
        """Return, by the address of each node, why it is not read now; None if it is read."""
        return self._cache.states()

    def reaches_all_nodes(self) -> bool:
        """True if every node of the cache responds to this process."""
        return "node-away" not in self._cache.states().values()

    def cache_list_conflict(self) -> str | None:
        """Return how the nodes in use differ from `cache.servers`; None if they do not."""
        return self._cache.list_conflict()

    async def get(self, member_id: int, *, no_cache: bool = False) -> Representation:
        """Return the member with this id. `no_cache` reads MongoDB. Raises MemberNotFound."""
        _check_id(member_id)
        found = await self._find(member_id, no_cache=no_cache)
        if found.entry is None:
            raise MemberNotFound(str(member_id), cache_status=found.status)
        return represent_entry(member_id, found.entry, found.status)

    async def get_if_named(
        self, member_id: int, name: str, *, no_cache: bool = False
    ) -> Representation | None:
        """Return the member with this id if it has this name. No other member is looked up."""
        found = await self._find(member_id, no_cache=no_cache)
        if found.entry is None or not has_name(found.entry, normalize_name(name)):
            return None
        return represent_entry(member_id, found.entry, found.status)

    async def _find(self, member_id: int, *, no_cache: bool) -> Found:
        if no_cache:
            return Found(await self._load(member_id), _ON_REQUEST)
        return await self._read(member_id)

    async def get_cached(self, asked: Iterable[Asked]) -> CachedMembers:
        """Look members up in the cache, by id or by name. MongoDB is not read.

        The caller counts the hits that it serves.
        """
        return await self._look_ups.find(asked)

    async def get_many(self, member_ids: Sequence[int], *, no_cache: bool = False) -> MemberBatch:
        """Return the members with these ids, which are valid and distinct, in this order.

        Each has the guarantee of a single read; together they are not a snapshot. `no_cache` reads
        MongoDB.
        """
        if no_cache:
            return MemberBatch.of(await self._load_many(member_ids), _ON_REQUEST)
        look_ups = take_look_ups(member_ids)
        look_ups |= await self._look_up([one for one in member_ids if one not in look_ups])
        entries = {one: hit.entry for one, hit in look_ups.items() if isinstance(hit, Hit)}
        hits = len(entries)
        self.cache_counts.hits += hits
        others = {one: other for one, other in look_ups.items() if not isinstance(other, Hit)}
        for member_id, found in (await self._fill(others)).items():
            entries[member_id] = found.entry
            hits += found.status == HIT
        status = HIT if hits == len(entries) else _PARTIAL % (hits, len(entries))
        return MemberBatch.of({one: entries[one] for one in member_ids}, status)

    async def _look_up(self, member_ids: Iterable[int]) -> dict[int, LookUp]:
        ids = {id_key(member_id): member_id for member_id in member_ids}
        looked_up = await self._cache.look_up([*ids]) if ids else {}
        schema = self._entries.schema
        return {ids[key]: usable(one, schema) for key, one in looked_up.items()}

    async def _fill(self, look_ups: Mapping[int, NotHit]) -> dict[int, Found]:
        ids = {id_key(member_id): member_id for member_id in look_ups}

        async def load(keys: Sequence[bytes]) -> dict[bytes, Entry | None]:
            loaded = await self._load_many([ids[key] for key in keys])
            return {id_key(member_id): entry for member_id, entry in loaded.items()}

        by_key = {key: look_ups[member_id] for key, member_id in ids.items()}
        found = await self._cache.fill(by_key, load) if ids else {}
        return {ids[key]: one for key, one in found.items()}

    async def _load_many(self, member_ids: Sequence[int]) -> dict[int, Entry | None]:
        members = await self._store.find_many(member_ids)
        of_member = self._entries.of_member
        return {one: of_member(member) for one, member in zip(member_ids, members, strict=True)}

    async def get_by_name(self, name: str, *, no_cache: bool = False) -> Representation:
        """Return the member with this name. `no_cache` reads MongoDB. Raises MemberNotFound."""
        name = normalize_name(name)
        rejected = None
        for _ in range(0 if no_cache else _MAX_REJECTIONS):
            found = await self._read_name(name, rejected)
            if found.entry is None:
                raise MemberNotFound("of this name", cache_status=found.status)
            if isinstance(found.entry.source, Member):  # it was loaded just now
                return represent(found.entry.source, found.status)
            rejected = found.entry
            member_id = member_id_in(found.entry)
            if member_id is None:
                continue
            found = await self._read(member_id)
            if found.entry is not None and has_name(found.entry, name):
                return represent_entry(member_id, found.entry, found.status)
            # else that member was renamed or deleted
        status = _ON_REQUEST if no_cache else _REJECTED
        member = await self._store.find_by_name(name)
        if member is None:
            raise MemberNotFound("of this name", cache_status=status)
        return represent(member, status)

    async def _read_name(self, name: str, rejected: Entry | None) -> Found:
        async def load() -> Entry | None:
            return name_entry(await self._store.find_by_name(name))

        return await self._cache.read(name_key(name), load, rejected=rejected)

    async def _read(self, member_id: int) -> Found:
        load = partial(self._load, member_id)
        look_up = take_look_ups([member_id]).get(member_id)
        found = await self._cache.read(id_key(member_id), load, look_up=look_up)
        if not self._entries.is_usable(found.entry):
            found = await self._cache.read(id_key(member_id), load, rejected=found.entry)
            if not self._entries.is_usable(found.entry):  # a process with other fields was faster
                return Found(await load(), _REJECTED)
        return found

    async def _load(self, member_id: int) -> Entry | None:
        return self._entries.of_member(await self._store.find_member(member_id))

    async def page(self, query: ListQuery) -> list[Member]:
        """Return at most `query.limit` members in order, beginning after `query.after`.

        Callers that ask for the same page at once share a query, as readers of one member do. They
        share the list, too, and must not change it.
        """
        return await self._pages.ask(repr(query).encode(), lambda: self._store.page(query))

    async def page_lines(self, query: ListQuery) -> PageLines:
        """Return the same page as lines of JSON."""
        return await self._store.page_lines(query)

    async def count(self, filters: Filters) -> int:
        """Count the members that match. MongoDB scans one index key for each."""
        return await self._store.count(filters)

    @property
    def has_history(self) -> bool:
        """True if changes are recorded."""
        return self._audit is not None

    async def history(self, member_id: int, *, after: Position | None, limit: int) -> list[Record]:
        """Return at most `limit` changes of a member, the newest first, beginning after `after`.

        Raises MemberNotFound if neither a member nor a record has this id.
        """
        _check_id(member_id)
        records: list[Record] = []
        if self._audit is not None:
            records = await self._audit.page(member_id, after=after, limit=limit)
        if not records and after is None and await self._store.find_member(member_id) is None:
            raise MemberNotFound(str(member_id))
        return records

    async def erase_history(self, member_id: int) -> None:
        """Remove the values from the history of a member, which may be deleted.

        Raises MemberNotFound if neither a member nor a record has this id.
        """
        _check_id(member_id)
        is_recorded = self._audit is not None and await self._audit.erase(member_id)
        if not is_recorded and await self._store.find_member(member_id) is None:
            raise MemberNotFound(str(member_id))

    async def create(self, draft: MemberDraft, *, by: Actor | None = None) -> Representation:
        """Create a member. Raises NameTaken."""
        for _ in range(_MAX_ATTEMPTS):
            member_id = await self._store.take_ids()
            with suppress(IdTaken):
                async with self._changing(id_key(member_id), name_key(draft.name)):
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
        _check_id(member_id)
        for _ in range(_MAX_ATTEMPTS):
            async with self._turns.turn(member_id):
                member = await self._replace(member_id, draft, condition, by)
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
        _check_id(member_id)
        for _ in range(_MAX_ATTEMPTS):
            async with self._turns.turn(member_id):
                current = await self._get_current(member_id, condition)
                seen = Precondition(one_of=frozenset({current.version}))
                member = await self._replace(member_id, change(current), seen, by)
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
            async with self._turns.turn(existing.member_id), self._changing(*keys):
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
        _check_id(member_id)
        for _ in range(_MAX_ATTEMPTS):
            async with self._turns.turn(member_id), self._changing(id_key(member_id)):
                if await self._store.delete(member_id, condition, by=by):
                    return
            await self._get_current(member_id, condition)
        raise WriteConflict

    @asynccontextmanager
    async def _changing(self, *keys: bytes) -> AsyncIterator[None]:
        """Write members whose entries have these keys, while their tombstones last.

        Raises DependencyUnavailable before the write if the cache cannot place tombstones.
        """
        try:
            async with self._cache.changing(*keys) as write:
                try:
                    with write_window(write.seconds_left):
                        yield
                except DependencyUnavailable:  # the outcome is unknown
                    raise
                except (Problem, IdTaken):
                    write.void()
                    raise
        except NotAnnounced as error:
            raise DependencyUnavailable(
                "The cache could not be invalidated, so nothing was written. Try again."
            ) from error

    async def _replace(
        self, member_id: int, draft: MemberDraft, condition: Precondition, by: Actor | None
    ) -> Member | None:
        async with self._changing(id_key(member_id), name_key(draft.name)):
            return await self._store.replace(member_id, draft, condition, by=by)

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
        async with self._changing(*keys, *{name_key(draft.name) for draft in drafts}):
            return await self._store.insert_many(drafts, first, by=by)

    async def replace_if_unchanged(
        self, member: Member, draft: MemberDraft, *, by: Actor | None = None
    ) -> bool:
        """Replace the fields of a member whose name and version are still those that were read.

        False if another writer changed or deleted the member since.
        """
        seen = Precondition(one_of=frozenset({member.version}))
        async with self._changing(id_key(member.member_id), name_key(draft.name)):
            replaced = await self._store.replace_named(member.member_id, draft, seen, by=by)
        return replaced is not None

    async def invalidate_members(self, changes: Iterable[Change]) -> bool:
        """Invalidate members that another client changed, and their new names.

        False if a node does not respond. The cache records this and invalidates the node later.
        """
        keys = []
        for change in changes:
            keys.append(id_key(change.member_id))
            if change.name is not None:
                keys.append(name_key(change.name))
        with _ledger_outages():
            return await self._cache.invalidate(dict.fromkeys(keys))

    async def invalidate_for_all(self, names: Mapping[int, str | None]) -> None:
        """Return once no process returns older states of these members and of their names.

        `names` are the current names by the members' ids; None for a member that was deleted.
        """
        keys = [id_key(member_id) for member_id in names]
        keys += [name_key(name) for name in names.values() if name is not None]
        with _ledger_outages():
            await self._cache.invalidate_for_all(keys)

    async def flush_cache(self) -> bool:
        """Invalidate all entries, if it is unknown what was changed.

        False if a node does not respond. The cache records this and invalidates the node later.
        """
        with _ledger_outages():
            return await self._cache.renew_epochs()


@contextmanager
def _ledger_outages() -> Iterator[None]:
    """Raise DependencyUnavailable if the ledger of debts, which is in MongoDB, is unavailable."""
    try:
        yield
    except LedgerUnavailable as error:
        raise DependencyUnavailable from error


def _check_id(member_id: int) -> None:
    if not 1 <= member_id <= MAX_MEMBER_ID:
        raise MemberNotFound(str(member_id))


def _check(member: Member, condition: Precondition) -> None:
    if not condition.allows(member.version, member.updated_at):
        raise PreconditionFailed
