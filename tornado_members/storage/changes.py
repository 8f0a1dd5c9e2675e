"""The change stream of the members: changes of all programs, as MongoDB reports them."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

import pymongo
from pymongo.errors import PyMongoError

from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.change_reader import (
    DOCUMENT_EVENTS,
    ChangeReader,
    ChangesUnavailable,
    Token,
    time_of,
    translate,
)
from tornado_members.storage.cluster_time import ClusterTime
from tornado_members.storage.documents import to_member_id
from tornado_members.storage.mongo import Document, Mongo, watch

# After a batch with changes, the reader rests before it reads the next one: a reply of MongoDB
# costs half a millisecond of processor time with one change, and little more with fifty.
_REST_SECONDS = 0.02

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
        """Yield batches of changes after the token; some are empty, as the first one.

        Without a token the stream starts now, and the first batch has `everything` set. It ends
        when the collection is dropped or renamed; the caller resumes from the last token.

        Raises ChangesUnavailable.
        """
        fresh = not token
        reader = ChangeReader(
            self.mongo,
            self._members,
            _PIPELINE,
            token or await current_token(self.mongo),
            is_prompt=False,
        )
        try:
            await reader.open()
            yield _to_batch([], reader.token, fresh=fresh)
            while True:
                batch = _to_batch(await reader.read(), reader.token)
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
        raise translate(error, from_token=False) from error
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


def _to_batch(events: list[Document], token: Token | None, *, fresh: bool = False) -> Batch:
    changes = [_to_change(event) for event in events if event["operationType"] in DOCUMENT_EVENTS]
    return Batch(
        changes=tuple(dict.fromkeys(change for change in changes if change)),
        # drop, rename, dropDatabase, invalidate, and events of later versions of MongoDB
        everything=fresh or any(event["operationType"] not in DOCUMENT_EVENTS for event in events),
        token=token,
        events=len(events),
        happened=time_of(events[-1]) if events else None,
    )


def _to_change(event: Document) -> Change | None:
    """Return the change in an event; None if no member can have the document's id."""
    member_id = to_member_id(event.get("documentKey", {}).get("_id"))
    if member_id is None:
        return None
    updated = event.get("updateDescription", {}).get("updatedFields", {})
    name = event.get("fullDocument", updated).get("name")
    return Change(member_id, name if isinstance(name, str) else None)
