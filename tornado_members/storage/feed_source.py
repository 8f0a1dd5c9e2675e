"""The change stream for the change feed: the last change of each member, with its resume token.

A batch of events names the members that changed. Their state after the last event of the batch is
read afterwards, from a snapshot at its time. So every service reports the same content at a token,
the versions of a member never go backward when a client resumes elsewhere, and changes in quick
succession become one.

MongoDB keeps snapshots for some minutes. For older events, the current members are read. One that
has a later version is left out, because the event of that version is still to come.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any, Literal

from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure

from tornado_members.errors import DependencyUnavailable
from tornado_members.in_turns import map_in_turns
from tornado_members.model.member import Member
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.change_reader import (
    DOCUMENT_EVENTS,
    ChangeReader,
    ChangesUnavailable,
    time_of,
)
from tornado_members.storage.changes import current_token
from tornado_members.storage.documents import (
    LAST_VERSION,
    MemberCodec,
    to_member_id,
    to_version,
)
from tornado_members.storage.mongo import Document, Mongo, open_session
from tornado_members.storage.operations import translate_outages

Kind = Literal["created", "changed", "deleted"]

_PIPELINE = [
    {
        "$project": {
            "operationType": 1,
            "documentKey": 1,
            "clusterTime": 1,
            "wallTime": 1,
            "fullDocument.version": 1,
            "updateDescription.updatedFields.version": 1,
        }
    }
]
_MOST_AT_ONCE = 200  # members, each of at most some KiB: a reply has to fit into 16 MB
_TIME = 18  # the first characters of a token: the type and the 64 bits of the event's time
# SnapshotTooOld, SnapshotUnavailable, and InvalidOptions of MongoDB before 5.0.
_NO_SNAPSHOT = frozenset({239, 246, 72})


class _Later(Enum):
    """The type of LATER."""

    LATER = auto()


LATER = _Later.LATER  # the member has a later version than the one of the event


@dataclass(frozen=True, slots=True)
class MemberChange:
    """The last change of a member in a batch, and the member after it."""

    member_id: int
    kind: Kind
    version: int | None  # None for a deletion that the history does not record
    member: Member | None  # None if the member no longer exists
    token: str  # the resume token of the event


@dataclass(frozen=True, slots=True)
class FeedBatch:
    """The changes up to `token`, in the order of their tokens."""

    changes: tuple[MemberChange, ...]
    token: str
    happened: datetime | None = None  # the time of the last event, by MongoDB's clock
    # The collection was dropped, renamed or replaced: all members may have changed.
    is_lost: bool = False


class FeedSource:
    """Reads batches of changes from MongoDB.

    A token is the hexadecimal content of a resume token. Those of one collection can be compared as
    text, as mongos does: they begin with the time of the event.
    """

    def __init__(self, mongo: Mongo, codec: MemberCodec, audit: AuditLog | None) -> None:
        """`audit` provides the versions of deletions; None if changes are not recorded."""
        self.mongo = mongo
        self._members = mongo.database["members"]
        self._codec = codec
        self._audit = audit

    async def current_token(self) -> str:
        """Return the current token: reads that start from now on return all changes before it.

        Raises ChangesUnavailable.
        """
        return _token_of(await current_token(self.mongo))

    async def is_future(self, token: str) -> bool:
        """True if a token is later than the current one. Raises ChangesUnavailable."""
        return token[:_TIME] > (await self.current_token())[:_TIME]

    async def since(self, token: str | None) -> AsyncGenerator[FeedBatch, None]:
        """Yield batches of changes after a token, or from now on; some batches are empty.

        The first batch is empty, and shows that the stream is open. The generator ends after a
        batch with `is_lost`. Raises ChangesUnavailable.
        """
        start = {"_data": token or await self.current_token()}
        reader = ChangeReader(self.mongo, self._members, _PIPELINE, start)
        try:
            await reader.open()
            yield FeedBatch((), _token_of(reader.token))
            while not reader.ended:
                events = await reader.read()
                batch = await self._to_batch(events, _token_of(reader.token))
                yield batch
                if batch.is_lost:
                    return
        finally:
            await self.mongo.shielded(reader.close())

    async def _to_batch(self, events: Sequence[Document], token: str) -> FeedBatch:
        happened = time_of(events[-1]) if events else None
        if any(event["operationType"] not in DOCUMENT_EVENTS for event in events):
            return FeedBatch((), token, happened, is_lost=True)
        last = _last_of_each(events)
        if not last:
            return FeedBatch((), token, happened)
        try:
            found = await self._read(last, events[-1]["clusterTime"])
            gone = [member_id for member_id in last if member_id not in found]
            deleted = await self._audit.deletions(gone) if self._audit and gone else {}
        except DependencyUnavailable as error:
            raise ChangesUnavailable(str(error)) from error
        new = {_id_of(event) for event in events if event["operationType"] == "insert"}
        changes = [
            change for event in last.values() if (change := _to_change(event, found, deleted, new))
        ]
        return FeedBatch(tuple(changes), token, happened)

    async def _read(
        self, last: Mapping[int, Document], time: Timestamp
    ) -> dict[int, Member | _Later | None]:
        """Return the documents that existed at a time; None is not a member."""
        ids = list(last)
        try:
            return {**await self._find_at(ids, time)}
        except OperationFailure as error:
            if error.code not in _NO_SNAPSHOT:
                raise
        found: dict[int, Member | _Later | None] = {}
        for member_id, member in (await self._find_now(ids, time)).items():
            is_later = member is not None and member.version > _version_in(last[member_id])
            found[member_id] = LATER if is_later else member
        return found

    @translate_outages
    async def _find_at(
        self, member_ids: Sequence[int], time: Timestamp
    ) -> dict[int, Member | None]:
        documents: list[Document] = []
        waiting = [
            member_ids[start : start + _MOST_AT_ONCE]
            for start in range(0, len(member_ids), _MOST_AT_ONCE)
        ]
        while waiting:
            ids = waiting.pop()
            cursor = await self._find_some_at(ids, time)
            if cursor["id"] and len(ids) > 1:  # they do not fit into one reply
                waiting += [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
            else:
                documents += cursor["firstBatch"]
        return await self._decode(documents)

    async def _find_some_at(self, member_ids: Sequence[int], time: Timestamp) -> Document:
        """Return MongoDB's description of a cursor. The drivers have no option for the time."""
        find: Document = {
            "find": self._members.name,
            "filter": {"_id": {"$in": list(member_ids)}},
            "batchSize": 2 * len(member_ids),
            "readConcern": {"level": "snapshot", "atClusterTime": time},
        }
        options = self._members.codec_options
        reply = await self.mongo.database.command(find, codec_options=options)
        return dict(reply["cursor"])

    @translate_outages
    async def _find_now(
        self, member_ids: Sequence[int], time: Timestamp
    ) -> dict[int, Member | None]:
        """Return the documents that exist, as of `time` or later."""
        session = await open_session(self.mongo)
        try:
            session.advance_operation_time(time)
            cursor = self._members.find({"_id": {"$in": list(member_ids)}}, session=session)
            return await self._decode(await cursor.to_list(None))
        finally:
            await session.end_session()

    async def _decode(self, documents: Sequence[Document]) -> dict[int, Member | None]:
        ids = [to_member_id(each["_id"]) for each in documents]
        members = await map_in_turns(self._codec.decode, documents)
        return {
            member_id: member
            for member_id, member in zip(ids, members, strict=True)
            if member_id is not None
        }


def _last_of_each(events: Iterable[Document]) -> dict[int, Document]:
    """Return the last event of each member, in the order of these events."""
    last: dict[int, Document] = {}
    for event in events:
        member_id = _id_of(event)
        if member_id is not None:
            last.pop(member_id, None)
            last[member_id] = event
    return last


def _id_of(event: Document) -> int | None:
    return to_member_id(event.get("documentKey", {}).get("_id"))


def _to_change(
    event: Document,
    found: Mapping[int, Member | _Later | None],
    deleted: Mapping[int, int],
    new: set[int | None],
) -> MemberChange | None:
    """Return the change; None if a later event reports it, or if the document is not a member.

    `new` are the members that were inserted in this batch.
    """
    member_id, operation, token = _id_of(event), event["operationType"], _token_of(event["_id"])
    if member_id is None:
        return None
    member = found.get(member_id)
    if member is LATER:
        return None
    if member is not None:
        kind: Kind = "created" if member_id in new else "changed"
        return MemberChange(member_id, kind, member.version, member, token)
    # Another program may change a member into an invalid document without deleting it.
    if operation == "delete" or (member_id in found and operation != "insert"):
        return MemberChange(member_id, "deleted", deleted.get(member_id), None, token)
    return None


def _version_in(event: Document) -> int:
    """Return the version that the event gave to its document; if it gave none, the highest."""
    updated = event.get("updateDescription", {}).get("updatedFields", {})
    changed = event.get("fullDocument") or updated
    return to_version(changed["version"]) if "version" in changed else LAST_VERSION


def _token_of(token: Mapping[str, Any] | None) -> str:
    if not token or not isinstance(token.get("_data"), str):
        raise ChangesUnavailable("MongoDB returned no resume token")
    return str(token["_data"])
