"""Changes of members as MongoDB tells them, whoever made them: a change stream.

ChangesUnavailable
├── HistoryLost
└── NotReplicated
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pymongo
from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from tornado_members.storage.documents import to_member_id
from tornado_members.storage.mongo import ChangeStream, Document, Mongo, watch
from tornado_members.storage.outages import is_outage

Token = Mapping[str, Any]  # a place in the stream, behind everything up to it; opaque

_AWAIT_MS = 250  # how long the server waits for a change; with Motor a thread waits with it
_GATHER_SECONDS = 0.002  # changes that are no further apart than this come in one batch
_MOST_CHANGES = 1000  # in one batch

_NOT_REPLICATED = 40573
_ACCESS_REFUSED = frozenset({13, 18})  # Unauthorized, AuthenticationFailed
# ChangeStreamFatalError, ChangeStreamHistoryLost, BSONObjectTooLarge: a stream that is opened again
# at the same place would break again.
_NO_WAY_ON = frozenset({280, 286, 10334})

# Events that are held at once. Left to itself MongoDB sends 16 MiB of them after an import, and
# they take many times that once they are read.
_BATCH = 500

# What is needed of an event, so that the server sends no more. A name that was not changed stays
# out of it, and one that was is the new one.
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
    """The stream broke, or cannot be opened. The text says why; another attempt may succeed."""


class HistoryLost(ChangesUnavailable):
    """MongoDB cannot go on from the token: what changed since then is not known any more."""


class NotReplicated(ChangesUnavailable):
    """MongoDB is no replica set, and only those have change streams."""


@dataclass(frozen=True, slots=True)
class Change:
    """A member was added, changed or removed; `name` is its new one, where the change tells it."""

    member_id: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What changed up to `token`. Where `everything` is set, anything may have."""

    changes: tuple[Change, ...]
    everything: bool
    token: Token | None
    events: int
    happened: datetime | None  # when the last event did


class MemberChanges:
    """The change stream of the members."""

    def __init__(self, mongo: Mongo) -> None:
        self._members = mongo.database["members"]
        # What an attempt may take: time for the server to wait, then for it to answer.
        self._timeout = _AWAIT_MS / 1000 + mongo.timeout

    async def since(self, token: Token | None) -> AsyncGenerator[Batch, None]:
        """Batches from behind the token on; there is an empty one now and then.

        Without a token it starts from now, and the first batch says that anything may have changed
        before. It ends when the collection was dropped or renamed: go on from the last token.

        Raises ChangesUnavailable.
        """
        reader = _Reader(self._members, token, self._timeout)
        try:
            fresh = not token
            while True:
                batch = _to_batch(await reader.read(), reader.token, fresh=fresh)
                fresh = False
                yield batch
                if reader.ended:
                    return
        finally:
            await reader.close()


class _Reader:
    """Reads one change stream. The next event is waited for while the last ones are dealt with."""

    def __init__(self, collection: Any, token: Token | None, timeout: float) -> None:
        self.token = token
        self.ended = False
        self._collection = collection
        self._timeout = timeout
        self._stream: ChangeStream | None = None
        self._opened = False
        self._next: asyncio.Task[Document | None] | None = None

    async def read(self) -> list[Document]:
        """The events that are there, or else those that come within a moment."""
        events: list[Document] = []
        while len(events) < _MOST_CHANGES and not self.ended:
            if self._next is None:
                self._next = asyncio.create_task(self._read_one())
            await asyncio.wait([self._next], timeout=_GATHER_SECONDS if events else None)
            if not self._next.done():
                break
            done, self._next = self._next, None
            event = done.result()
            if self._stream is not None:
                self.token = self._stream.resume_token
                self.ended = not self._stream.alive
            if event is None:
                break
            events.append(event)
        return events

    async def _read_one(self) -> Document | None:
        try:
            with pymongo.timeout(self._timeout):
                if self._stream is None:
                    # Unlike resumeAfter, startAfter also goes on from where a collection ended.
                    self._stream = await watch(
                        self._collection,
                        _PIPELINE,
                        start_after=self.token or None,
                        max_await_time_ms=_AWAIT_MS,
                        batch_size=_BATCH,
                    )
                event = await self._stream.try_next()
        except PyMongoError as error:
            raise _translate(error, from_token=bool(self.token) and not self._opened) from error
        self._opened = True
        return event

    async def close(self) -> None:
        """Close it, once the read that is under way has ended: Motor's could not be stopped."""
        if self._next is not None:
            await asyncio.wait([self._next])
            if self._next.exception():
                return
        if self._stream is not None:
            with suppress(PyMongoError), pymongo.timeout(self._timeout):
                await self._stream.close()


def _translate(error: PyMongoError, *, from_token: bool) -> ChangesUnavailable:
    """What an error means; `from_token`: the stream was just being opened with a token."""
    details = getattr(error, "details", None) or {}
    text = details.get("errmsg") or f"{type(error).__name__}: {error}"
    text = text.splitlines()[0][:300] if text else type(error).__name__
    code = error.code if isinstance(error, OperationFailure) else None
    if code == _NOT_REPLICATED:
        return NotReplicated(text)
    if code in _NO_WAY_ON or error.has_error_label("NonResumableChangeStreamError"):
        return HistoryLost(text)
    # There is no list of what a server says to a token that it does not like. Should the reason be
    # another, opening it without one fails as well, and nothing is lost.
    if from_token and code and code not in _ACCESS_REFUSED and not is_outage(error):
        return HistoryLost(text)
    return ChangesUnavailable(text)


def _to_batch(events: list[Document], token: Token | None, *, fresh: bool) -> Batch:
    changes = [_to_change(event) for event in events if event["operationType"] in _OF_A_MEMBER]
    return Batch(
        changes=tuple(dict.fromkeys(change for change in changes if change)),
        # drop, rename, dropDatabase, invalidate, or what a later MongoDB has to tell
        everything=fresh or any(event["operationType"] not in _OF_A_MEMBER for event in events),
        token=token,
        events=len(events),
        happened=_time_of(events[-1]) if events else None,
    )


_OF_A_MEMBER = frozenset({"insert", "update", "replace", "delete"})


def _to_change(event: Document) -> Change | None:
    """The change in an event; None if its document has no id that a member can have."""
    member_id = to_member_id(event.get("documentKey", {}).get("_id"))
    if member_id is None:
        return None
    updated = event.get("updateDescription", {}).get("updatedFields", {})
    name = event.get("fullDocument", updated).get("name")
    return Change(member_id, name if isinstance(name, str) else None)


def _time_of(event: Document) -> datetime | None:
    """When it happened by MongoDB's clock: `wallTime` (from 6.0 on), or else to the second."""
    happened = event.get("wallTime")
    if isinstance(happened, datetime):
        return happened.replace(tzinfo=UTC)
    cluster_time = event.get("clusterTime")
    return cluster_time.as_datetime() if isinstance(cluster_time, Timestamp) else None
