"""The change stream of the members: changes of all programs, as MongoDB reports them.

ChangesUnavailable
├── HistoryLost
└── NotReplicated
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pymongo
from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.cluster_time import ClusterTime
from tornado_members.storage.documents import to_member_id
from tornado_members.storage.mongo import ChangeStream, Document, Mongo, watch
from tornado_members.storage.outages import is_outage

Token = Mapping[str, Any]  # an opaque position in the stream, from which it can be resumed

_AWAIT_MS = 1000  # for which the server waits for a change
_GATHER_SECONDS = 0.002  # changes that are at most so far apart form one batch
_MOST_CHANGES = 1000  # in one batch
# After a batch with changes, the reader rests before it reads the next one: a reply of MongoDB
# costs half a millisecond of processor time with one change, and little more with fifty.
_REST_SECONDS = 0.02

_NOT_REPLICATED = 40573
_ACCESS_REFUSED = frozenset({13, 18})  # Unauthorized, AuthenticationFailed
# ChangeStreamFatalError, ChangeStreamHistoryLost, BSONObjectTooLarge: a stream that is opened again
# at the same token would break again.
_NOT_RESUMABLE = frozenset({280, 286, 10334})

# Events in one reply. By default MongoDB sends up to 16 MiB of them after an import, and Python
# objects take many times that.
_BATCH = 500

# The fields of an event that are used; the server sends no others. An update has the name only if
# it changed the name.
_PIPELINE = [
    {
        "$project": {
            "operationType": 1,
            "documentKey": 1,
            "clusterTime": 1,
            "wallTime": 1,
            "fullDocument.name": 1,
            "updateDescription.updatedFields.name": 1,
        }
    }
]


class ChangesUnavailable(Exception):
    """The stream broke, or cannot be opened. Another attempt may succeed."""


class HistoryLost(ChangesUnavailable):
    """MongoDB cannot resume from the token. The changes since then are lost."""


class NotReplicated(ChangesUnavailable):
    """MongoDB is not a replica set. Only replica sets have change streams."""


@dataclass(frozen=True, slots=True)
class Change:
    """A member was created, changed or deleted; `name` is its new name if that changed."""

    member_id: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes up to `token`. If `everything` is set, any member may have changed."""

    changes: tuple[Change, ...]
    everything: bool
    token: Token | None
    events: int
    happened: datetime | None  # the time of the last event


class MemberChanges:
    """The change stream of the members."""

    def __init__(self, mongo: Mongo) -> None:
        self._members = mongo.database["members"]
        self.mongo = mongo

    async def since(self, token: Token | None) -> AsyncGenerator[Batch, None]:
        """Yield batches of changes after the token; some are empty.

        Without a token the stream starts now, and the first batch has `everything` set. It ends
        when the collection is dropped or renamed; the caller resumes from the last token.

        Raises ChangesUnavailable.
        """
        fresh = not token
        reader = ChangeReader(
            self._members,
            _PIPELINE,
            read_timeout(self.mongo),
            token or await current_token(self.mongo),
        )
        try:
            while True:
                batch = _to_batch(await reader.read(), reader.token, fresh=fresh)
                fresh = False
                yield batch
                if reader.ended:
                    return
                if batch.events:
                    await asyncio.sleep(_REST_SECONDS)
        finally:
            await self.mongo.shielded(reader.close())


async def current_token(mongo: Mongo) -> Token | None:
    """Return the current resume token: reads that start from now on return all changes before it.

    A stream that is opened without a token begins at the last operation of the primary. A majority
    may not have that operation yet: reads do not return it, and the stream does not report it
    either. So this waits until a majority has it.

    Raises ChangesUnavailable.
    """
    try:
        with pymongo.timeout(mongo.timeout):
            token = await _token_of_new_stream(mongo)
        time = ClusterTime(mongo)
        last = await time.now()
        if last is not None:
            await time.until_committed(last)
    except DependencyUnavailable as error:
        raise ChangesUnavailable(str(error)) from error
    except PyMongoError as error:
        raise _translate(error, from_token=False) from error
    return token


async def _token_of_new_stream(mongo: Mongo) -> Token | None:
    """Open a stream and close it again, also if the caller is cancelled meanwhile."""

    async def open_and_close() -> Token | None:
        # Without events, the reply has a token even if there are changes at this moment.
        stream = await watch(mongo.database["members"], _PIPELINE, batch_size=0)
        token = stream.resume_token
        await stream.close()
        return token

    task = asyncio.create_task(open_and_close())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def read_timeout(mongo: Mongo) -> float:
    """Return the timeout of one read, in seconds: the server waits first, and then responds."""
    return _AWAIT_MS / 1000 + mongo.timeout


class ChangeReader:
    """Reads one change stream. It waits for the next event while the caller processes a batch."""

    def __init__(
        self,
        collection: Any,
        pipeline: Sequence[Document],
        timeout: float,
        token: Token | None,
    ) -> None:
        """`timeout` is that of one read, in seconds."""
        self.token = token
        self.ended = False
        self._collection = collection
        self._pipeline = pipeline
        self._timeout = timeout
        self._stream: ChangeStream | None = None
        self._opened = False
        self._next: asyncio.Task[Document | None] | None = None

    async def open(self) -> None:
        """Open the stream without reading from it. Raises ChangesUnavailable.

        If the caller is cancelled meanwhile, close() waits for the stream and closes it. MongoDB
        would keep it open.
        """
        self._next = asyncio.create_task(self._open_only())
        await asyncio.wait([self._next])
        done, self._next = self._next, None
        done.result()

    async def _open_only(self) -> None:
        try:
            with pymongo.timeout(self._timeout):
                await self._open()
        except PyMongoError as error:
            raise _translate(error, from_token=bool(self.token)) from error
        self._opened = True

    async def read(self) -> list[Document]:
        """Return the events that are available, or else the next ones.

        Raises ChangesUnavailable.
        """
        events: list[Document] = []
        while len(events) < _MOST_CHANGES and not self.ended:
            if self._next is None:
                self._next = asyncio.create_task(self._read_one())
                await asyncio.sleep(0)  # enough for an event that the driver has received
            if not self._next.done():
                await asyncio.wait([self._next], timeout=_GATHER_SECONDS if events else None)
            if not self._next.done():
                break
            done, self._next = self._next, None
            event = done.result()
            if self._stream is not None:
                # The same as the token of the event, which would be copied deeply.
                self.token = event["_id"] if event else self._stream.resume_token
                self.ended = not self._stream.alive
            if event is None:
                break
            events.append(event)
        return events

    async def _read_one(self) -> Document | None:
        try:
            with pymongo.timeout(self._timeout):
                stream = await self._open()
                event = await stream.try_next()
        except PyMongoError as error:
            raise _translate(error, from_token=bool(self.token) and not self._opened) from error
        self._opened = True
        return event

    async def _open(self) -> ChangeStream:
        if self._stream is None:
            # Unlike resumeAfter, startAfter also continues after the end of a collection.
            self._stream = await watch(
                self._collection,
                self._pipeline,
                start_after=self.token or None,
                max_await_time_ms=_AWAIT_MS,
                batch_size=_BATCH,
            )
            self.token = self._stream.resume_token
        return self._stream

    async def close(self) -> None:
        """Close the stream after the current read, which Motor cannot cancel."""
        if self._next is not None:
            await asyncio.wait([self._next])
            if self._next.exception():
                return
        if self._stream is not None:
            with suppress(PyMongoError), pymongo.timeout(self._timeout):
                await self._stream.close()


def _translate(error: PyMongoError, *, from_token: bool) -> ChangesUnavailable:
    """Return the exception to raise. `from_token` is True if resuming from a token has failed."""
    details = getattr(error, "details", None) or {}
    text = details.get("errmsg") or f"{type(error).__name__}: {error}"
    text = text.splitlines()[0][:300] if text else type(error).__name__
    code = error.code if isinstance(error, OperationFailure) else None
    if code == _NOT_REPLICATED:
        return NotReplicated(text)
    if code in _NOT_RESUMABLE or error.has_error_label("NonResumableChangeStreamError"):
        return HistoryLost(text)
    # The error codes for a token that the server rejects are not documented. If the reason is
    # another one, the stream cannot be opened without a token either, and nothing is lost.
    if from_token and code and code not in _ACCESS_REFUSED and not is_outage(error):
        return HistoryLost(text)
    return ChangesUnavailable(text)


def _to_batch(events: list[Document], token: Token | None, *, fresh: bool) -> Batch:
    changes = [_to_change(event) for event in events if event["operationType"] in DOCUMENT_EVENTS]
    return Batch(
        changes=tuple(dict.fromkeys(change for change in changes if change)),
        # drop, rename, dropDatabase, invalidate, and events of later versions of MongoDB
        everything=fresh or any(event["operationType"] not in DOCUMENT_EVENTS for event in events),
        token=token,
        events=len(events),
        happened=time_of(events[-1]) if events else None,
    )


# The types of events that concern one document. Others concern the whole collection.
DOCUMENT_EVENTS = frozenset({"insert", "update", "replace", "delete"})


def _to_change(event: Document) -> Change | None:
    """Return the change in an event; None if no member can have the document's id."""
    member_id = to_member_id(event.get("documentKey", {}).get("_id"))
    if member_id is None:
        return None
    updated = event.get("updateDescription", {}).get("updatedFields", {})
    name = event.get("fullDocument", updated).get("name")
    return Change(member_id, name if isinstance(name, str) else None)


def time_of(event: Document) -> datetime | None:
    """Return the time of an event on MongoDB's clock: `wallTime` (from 6.0), or else in seconds."""
    happened = event.get("wallTime")
    if isinstance(happened, datetime):
        return happened.replace(tzinfo=UTC)
    cluster_time = event.get("clusterTime")
    return cluster_time.as_datetime() if isinstance(cluster_time, Timestamp) else None
