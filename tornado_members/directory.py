"""What the product does: keep members, and say who they are."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Protocol

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
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.errors import LedgerUnavailable, NotAnnounced
from tornado_members.lease_cache.protocol import HIT, Found
from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Actor, Place, Record
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.model.member import MAX_MEMBER_ID, MEMBER_FIELDS, Member, MemberDraft
from tornado_members.model.names import normalize_name
from tornado_members.model.precondition import NO_CONDITION, Precondition
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.changes import Change
from tornado_members.storage.members import MemberStore
from tornado_members.storage.write_window import write_window

# Cache-Status (RFC 9211 §2) of a read that was not to be answered from the cache.
_ON_REQUEST = "fwd=request"
_NO_MARK = b"-"  # of entries that lead from a name to an id, and of the plain cache
_REJECTED = "fwd=bypass; detail=rejected"
# Names move rarely. One that moves each time it is looked at is left to the database.
_MOST_REJECTIONS = 3
_MOST_ATTEMPTS = 100  # at a write whose member is changed again and again by others
_TOO_MANY_DIGITS = 12  # for seconds since the epoch, up to the year 9999


@dataclass(frozen=True, slots=True)
class Representation:
    """A member as it is answered: its version, and the bytes of its body."""

    member_id: int
    version: int
    body: bytes
    updated_at: datetime | None
    cache_status: str | None = None  # how it was read, in the words of RFC 9211


class Cache(Protocol):
    """LeaseCache, or what stands in for it."""

    counts: CacheCounts

    async def read(  # noqa: D102
        self,
        key: bytes,
        load: Callable[[], Awaitable[Entry | None]],
        *,
        rejected: Entry | None = None,
    ) -> Found: ...
    async def peek(self, keys: Sequence[bytes]) -> Mapping[bytes, Entry]: ...  # noqa: D102
    def changing(  # noqa: D102
        self, *keys: bytes
    ) -> AbstractAsyncContextManager[AnnouncedWrite]: ...
    def states(self) -> Mapping[str, str | None]: ...  # noqa: D102
    async def invalidate(self, keys: Iterable[bytes]) -> bool: ...  # noqa: D102
    async def renew_epochs(self) -> bool: ...  # noqa: D102


class MemberDirectory:
    """Reads of one member go through the cache; each write tells the cache what it touches.

    Everything raises DependencyUnavailable when the database is needed and does not answer.

    A name leads to an id under a key of its own, and the member of that id is checked to bear the
    name. So whoever takes a name from a member need not tell anybody: only a member's id is told,
    and a name that a member is given.

    Where changes are recorded, `by` is whoever makes one.
    """

    def __init__(
        self,
        store: MemberStore,
        cache: Cache,
        audit: AuditLog | None = None,
        fields: FieldTable = MEMBER_FIELDS,
    ) -> None:
        """`audit` has what the store records, if it does."""
        self._store = store
        self._cache = cache
        self._audit = audit
        # The last part of the mark of each member's entry. A process that has other fields would
        # answer with other bytes, so it does not take the entry for its own.
        self._schema = b"@" + fields.digest

    @property
    def cache_counts(self) -> CacheCounts:
        """What the cache did, for operators."""
        return self._cache.counts

    def cache_states(self) -> Mapping[str, str | None]:
        """By the address of each node of the cache, why it is not read now; None if it is."""
        return self._cache.states()

    async def get(self, member_id: int, *, no_cache: bool = False) -> Representation:
        """The member with this id; with `no_cache`, from the database. Raises MemberNotFound."""
        _check_id(member_id)
        found = await self._find(member_id, no_cache=no_cache)
        if found.entry is None:
            raise MemberNotFound(str(member_id), cache_status=found.status)
        return _represent_entry(member_id, found.entry, found.status)

    async def get_if_named(
        self, member_id: int, name: str, *, no_cache: bool = False
    ) -> Representation | None:
        """Return the member with this id if it has this name. No other member is looked up."""
        found = await self._find(member_id, no_cache=no_cache)
        if found.entry is None or not _bears(found.entry, normalize_name(name)):
            return None
        return _represent_entry(member_id, found.entry, found.status)

    async def _find(self, member_id: int, *, no_cache: bool) -> Found:
        if no_cache:
            return Found(self._to_entry(await self._store.find_member(member_id)), _ON_REQUEST)
        return await self._read(member_id)

    async def get_cached(self, member_ids: Iterable[int]) -> dict[int, Representation]:
        """Those of these members that the cache has; all are asked for at once, none is loaded."""
        ids = {_id_key(member_id): member_id for member_id in member_ids}
        found = await self._cache.peek([*ids])
        return {
            ids[key]: _represent_entry(ids[key], entry, HIT)
            for key, entry in found.items()
            if self._has_our_fields(entry)
        }

    async def get_by_name(self, name: str, *, no_cache: bool = False) -> Representation:
        """The member with this name; with `no_cache`, from the database. Raises MemberNotFound."""
        name = normalize_name(name)
        rejected = None
        for _ in range(0 if no_cache else _MOST_REJECTIONS):
            lead = await self._cache.read(
                _name_key(name), lambda: self._load_lead(name), rejected=rejected
            )
            if lead.entry is None:
                raise MemberNotFound("of this name", cache_status=lead.status)
            if isinstance(lead.entry.source, Member):  # it comes straight from the database
                return _represent(lead.entry.source, lead.status)
            rejected = lead.entry
            member_id = _led_to(lead.entry)
            if member_id is None:
                continue
            found = await self._read(member_id)
            if found.entry is not None and _bears(found.entry, name):
                return _represent_entry(member_id, found.entry, found.status)
            # else that member bears another name now, or is gone
        status = _ON_REQUEST if no_cache else _REJECTED
        member = await self._store.find_by_name(name)
        if member is None:
            raise MemberNotFound("of this name", cache_status=status)
        return _represent(member, status)

    async def _read(self, member_id: int) -> Found:
        async def load() -> Entry | None:
            return self._to_entry(await self._store.find_member(member_id))

        found = await self._cache.read(_id_key(member_id), load)
        if found.entry is not None and not self._has_our_fields(found.entry):
            found = await self._cache.read(_id_key(member_id), load, rejected=found.entry)
            if found.entry is not None and not self._has_our_fields(found.entry):
                return Found(await load(), _REJECTED)  # a process with other fields was faster
        return found

    def _has_our_fields(self, entry: Entry) -> bool:
        """True unless a process with other fields stored the entry."""
        return entry.mark.endswith(self._schema) or entry.mark == _NO_MARK

    def _to_entry(self, member: Member | None) -> Entry | None:
        """Return what the cache keeps of a member.

        The mark has the hash of its name, the second of its last change, and the schema.
        """
        if member is None:
            return None
        changed = b"%d" % member.updated_at.timestamp() if member.updated_at else b""
        mark = _name_hash(member.name) + b"@" + changed + self._schema
        return Entry(member.version, mark, member.to_json())

    async def _load_lead(self, name: str) -> Entry | None:
        member = await self._store.find_by_name(name)
        if member is None:
            return None
        return Entry(0, _NO_MARK, b"%d" % member.member_id, source=member)

    async def page(self, query: ListQuery) -> list[Member]:
        """At most `query.limit` members in order, from behind `query.after` on."""
        return await self._store.page(query)

    async def count(self, filters: Filters) -> int:
        """How many members there are of this kind: a scan of their keys in an index."""
        return await self._store.count(filters)

    @property
    def has_history(self) -> bool:
        """Whether changes are recorded."""
        return self._audit is not None

    async def history(self, member_id: int, *, after: Place | None, limit: int) -> list[Record]:
        """At most `limit` of a member's changes, the newest first, from behind `after` on.

        Raises MemberNotFound where there neither is a member nor a record of one.
        """
        _check_id(member_id)
        records: list[Record] = []
        if self._audit is not None:
            records = await self._audit.page(member_id, after=after, limit=limit)
        if not records and after is None and await self._store.find_member(member_id) is None:
            raise MemberNotFound(str(member_id))
        return records

    async def create(self, draft: MemberDraft, *, by: Actor | None = None) -> Representation:
        """Add a member. Raises NameTaken."""
        member_id = await self._store.take_ids()
        async with self._changing(_id_key(member_id), _name_key(draft.name)):
            return _represent(await self._store.insert(draft, member_id, by=by))

    async def replace(
        self,
        member_id: int,
        draft: MemberDraft,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> Representation:
        """Give a member new contents. Raises MemberNotFound, NameTaken, PreconditionFailed."""
        _check_id(member_id)
        for _ in range(_MOST_ATTEMPTS):
            member = await self._replace(member_id, draft, condition, by)
            if member is not None:
                return _represent(member)
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
        """Change a member as it is now, whoever else changes it meanwhile.

        Raises MemberNotFound, NameTaken, PreconditionFailed, and what `change` raises.
        """
        _check_id(member_id)
        for _ in range(_MOST_ATTEMPTS):
            current = await self._get_current(member_id, condition)
            seen = Precondition(one_of=frozenset({current.version}))
            member = await self._replace(member_id, change(current), seen, by)
            if member is not None:
                return _represent(member)
        raise WriteConflict

    async def put_by_name(
        self,
        draft: MemberDraft,
        member_id: int | None = None,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> tuple[Representation, bool]:
        """Create the member with the draft's name, or give it new contents; True if it is new.

        Where `member_id` is given, only the member that has that id is meant: InvalidMember if it
        does not bear the name. Raises PreconditionFailed.
        """
        for _ in range(_MOST_ATTEMPTS):
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
                    continue  # another writer was faster: its member is the one to replace
            _check(existing, condition)
            # If another program added the member, the cache may have that nobody has the name.
            keys = _id_key(existing.member_id), _name_key(draft.name)
            async with self._changing(*keys):
                member = await self._store.replace_named(
                    existing.member_id, draft, condition, by=by
                )
            if member is not None:  # else it was changed, renamed or removed meanwhile
                return _represent(member), False
        raise WriteConflict

    async def delete(
        self, member_id: int, condition: Precondition = NO_CONDITION, *, by: Actor | None = None
    ) -> None:
        """Remove a member for good. Raises MemberNotFound, PreconditionFailed."""
        _check_id(member_id)
        for _ in range(_MOST_ATTEMPTS):
            async with self._changing(_id_key(member_id)):
                if await self._store.delete(member_id, condition, by=by):
                    return
            await self._get_current(member_id, condition)
        raise WriteConflict

    @asynccontextmanager
    async def _changing(self, *keys: bytes) -> AsyncIterator[None]:
        """Write members whose entries have these keys, while their tombstones last.

        Raises DependencyUnavailable before anything is written if the cache cannot be told.
        """
        try:
            async with self._cache.changing(*keys) as write:
                try:
                    with write_window(write.seconds_left):
                        yield
                except DependencyUnavailable:  # the outcome is not known
                    raise
                except Problem:
                    write.void()
                    raise
        except NotAnnounced as error:
            raise DependencyUnavailable(
                "The cache cannot be told of the change. Nothing was written."
            ) from error

    async def _replace(
        self, member_id: int, draft: MemberDraft, condition: Precondition, by: Actor | None
    ) -> Member | None:
        async with self._changing(_id_key(member_id), _name_key(draft.name)):
            return await self._store.replace(member_id, draft, condition, by=by)

    async def _get_current(self, member_id: int, condition: Precondition) -> Member:
        """The member as it is in the database, which is as the condition demands.

        Raises MemberNotFound, PreconditionFailed.
        """
        member = await self._store.find_member(member_id)
        if member is not None:
            _check(member, condition)
            return member
        if condition.must_exist:  # of nothing, no version is the right one (RFC 9110 §13.1.1)
            raise PreconditionFailed
        raise MemberNotFound(str(member_id))

    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member | None]:
        """By name, the members that have one of these names.

        None stands for a document that is not a member and holds the name.
        """
        return await self._store.find_by_names(names)

    async def take_ids(self, count: int) -> int:
        """Take so many new ids in a row, for members to come; returns the first."""
        return await self._store.take_ids(count)

    async def create_many(
        self, drafts: Sequence[MemberDraft], first: int, *, by: Actor | None = None
    ) -> Sequence[Member | None]:
        """Add members under ids in a row that were taken; None stands where a name was taken."""
        keys = [_id_key(member_id) for member_id in range(first, first + len(drafts))]
        async with self._changing(*keys, *{_name_key(draft.name) for draft in drafts}):
            return await self._store.insert_many(drafts, first, by=by)

    async def replace_if_unchanged(
        self, member: Member, draft: MemberDraft, *, by: Actor | None = None
    ) -> bool:
        """Give a member new contents if its name and version are still those that were read.

        False if another writer changed or deleted the member since.
        """
        seen = Precondition(one_of=frozenset({member.version}))
        async with self._changing(_id_key(member.member_id), _name_key(draft.name)):
            replaced = await self._store.replace_named(member.member_id, draft, seen, by=by)
        return replaced is not None

    async def invalidate_members(self, changes: Iterable[Change]) -> bool:
        """Let the cache forget members that another client changed, and names that they were given.

        False if a node does not answer: this is recorded, for when it does.
        Raises DependencyUnavailable.
        """
        keys = []
        for change in changes:
            keys.append(_id_key(change.member_id))
            if change.name is not None:
                keys.append(_name_key(change.name))
        with _ledger_outages():
            return await self._cache.invalidate(dict.fromkeys(keys))

    async def flush_cache(self) -> bool:
        """Let the cache forget everything, since it is not known what was changed.

        False if a node does not answer: this is recorded, for when it does.
        Raises DependencyUnavailable.
        """
        with _ledger_outages():
            return await self._cache.renew_epochs()


@contextmanager
def _ledger_outages() -> Iterator[None]:
    """Report an outage of the ledger, which is kept in MongoDB, as one of MongoDB."""
    try:
        yield
    except LedgerUnavailable as error:
        raise DependencyUnavailable from error


def _id_key(member_id: int) -> bytes:
    return b"member:%d" % member_id


def _name_key(name: str) -> bytes:
    return b"name:" + _name_hash(name)


def _name_hash(name: str) -> bytes:
    """Names have characters that keys may not have. A lone surrogate comes from no member."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest().encode()


def _check_id(member_id: int) -> None:
    if not 1 <= member_id <= MAX_MEMBER_ID:
        raise MemberNotFound(str(member_id))


def _check(member: Member, condition: Precondition) -> None:
    if not condition.allows(member.version, member.updated_at):
        raise PreconditionFailed


def _led_to(lead: Entry) -> int | None:
    """The id to which a name leads; None for nonsense, of whatever length."""
    is_id = lead.body.isdigit() and len(lead.body) <= len(str(MAX_MEMBER_ID))
    return int(lead.body) if is_id and 1 <= int(lead.body) <= MAX_MEMBER_ID else None


def _bears(entry: Entry, name: str) -> bool:
    return entry.mark.startswith(_name_hash(name) + b"@")


def _represent_entry(member_id: int, entry: Entry, cache_status: str) -> Representation:
    seconds = b"" if entry.mark == _NO_MARK else entry.mark.split(b"@")[1]
    is_date = seconds.isdigit() and len(seconds) < _TOO_MANY_DIGITS
    updated_at = datetime.fromtimestamp(int(seconds), UTC) if is_date else None
    return Representation(member_id, entry.version, entry.body, updated_at, cache_status)


def _represent(member: Member, cache_status: str | None = None) -> Representation:
    return Representation(
        member.member_id, member.version, member.to_json(), member.updated_at, cache_status
    )
