"""Reads change streams, and translates their errors.

ChangesUnavailable
├── HistoryLost
└── NotReplicated
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pymongo
from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from tornado_members.storage.mongo import ChangeStream, Document, Mongo, watch
from tornado_members.storage.outages import is_outage

Token = Mapping[str, Any]  # an opaque position in the stream, from which it can be resumed

_AWAIT_MS = 1000  # for which the server waits for a change
# The same, if the wait can be cancelled. A connection that broke unnoticed is found after this time
# and the timeout of an operation.
_LONG_AWAIT_MS = 5000
_GATHER_SECONDS = 0.002  # changes that are at most so far apart form one batch
_MOST_CHANGES = 1000  # in one batch

_NOT_REPLICATED = 40573
_ACCESS_REFUSED = frozenset({13, 18})  # Unauthorized, AuthenticationFailed
# ChangeStreamFatalError, ChangeStreamHistoryLost, BSONObjectTooLarge: a stream that is opened again
# at the same token would break again.
_NOT_RESUMABLE = frozenset({280, 286, 10334})

# Events in one reply. By default MongoDB sends up to 16 MiB of them after an import, and Python
# objects take many times that.
_BATCH = 500

# The types of events that concern one document. Others concern the whole collection.
DOCUMENT_EVENTS = frozenset({"insert", "update", "replace", "delete"})


class ChangesUnavailable(Exception):
    """The stream broke, or cannot be opened. Another attempt may succeed."""


class HistoryLost(ChangesUnavailable):
    """MongoDB cannot resume from the token. The changes since then are lost."""


class NotReplicated(ChangesUnavailable):
    """MongoDB is not a replica set. Only replica sets have change streams."""


class ChangeReader:
    """Reads one change stream. It waits for the next event while the caller processes a batch."""

    def __init__(
        self,
        mongo: Mongo,
        collection: Any,
        pipeline: Sequence[Document],
        token: Token | None,
        *,
        is_prompt: bool = True,
    ) -> None:
        """`is_prompt`: without events, the token advances every second, instead of five."""
        self.token = token
        self.ended = False
        self._collection = collection
        self._pipeline = pipeline
        self._may_cancel = mongo.may_cancel_streams
        self._await_ms = _AWAIT_MS if is_prompt or not self._may_cancel else _LONG_AWAIT_MS
        # Of one read, in seconds: the server waits first, and then responds.
        self._timeout = self._await_ms / 1000 + mongo.timeout
        self._stream: ChangeStream | None = None
        self._has_read = False
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
            raise translate(error, from_token=bool(self.token)) from error

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
            raise translate(error, from_token=bool(self.token) and not self._has_read) from error
        self._has_read = True
        return event

    async def _open(self) -> ChangeStream:
        if self._stream is None:
            # Unlike resumeAfter, startAfter also continues after the end of a collection.
            self._stream = await watch(
                self._collection,
                self._pipeline,
                start_after=self.token or None,
                max_await_time_ms=self._await_ms,
                batch_size=_BATCH,
            )
            self.token = self._stream.resume_token
        return self._stream

    async def close(self) -> None:
        """Close the stream, after the current read unless that may be cancelled.

        Motor cannot cancel it. The driver closes a stream whose read is cancelled.
        """
        if self._next is not None:
            if self._stream is not None and self._may_cancel:
                self._next.cancel()
            await asyncio.wait([self._next])
            if self._next.cancelled() or self._next.exception():
                return
        if self._stream is not None:
            with suppress(PyMongoError), pymongo.timeout(self._timeout):
                await self._stream.close()


def translate(error: PyMongoError, *, from_token: bool) -> ChangesUnavailable:
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


def time_of(event: Document) -> datetime | None:
    """Return the time of an event on MongoDB's clock: `wallTime` (from 6.0), or else in seconds."""
    happened = event.get("wallTime")
    if isinstance(happened, datetime):
        return happened.replace(tzinfo=UTC)
    cluster_time = event.get("clusterTime")
    return cluster_time.as_datetime() if isinstance(cluster_time, Timestamp) else None
