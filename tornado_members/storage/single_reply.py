"""Finds the documents of a page with one command.

A cursor of the driver takes about 70 µs of processor time more than its command, which is a quarter
of a page of 50. So a page that fits into one reply is read without a cursor.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from pymongo.errors import AutoReconnect, OperationFailure

from tornado_members.storage.mongo import Collection, Document

_MOST: Final = 1001  # documents in a reply, which then take half a millisecond to decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """A query for at most `limit` documents, which names its index."""

    matching: Document
    shown: Document  # the projection
    index: Sequence[tuple[str, int]]
    sort: tuple[str, int] | None  # None if the order of the index suffices
    limit: int


async def find(members: Collection, query: Find, per_reply: int = 0) -> list[Document]:
    """Return the documents of a query, at most `per_reply` of them per reply if that is not 0."""
    if query.limit <= (per_reply or _MOST):
        # The driver repeats a query of a cursor after a lost connection or an election.
        with suppress(AutoReconnect):
            found = await _find_in_one_reply(members, query)
            if found is not None:
                return found
    cursor = members.find(query.matching, query.shown, batch_size=per_reply)
    cursor.limit(query.limit).hint([*query.index])
    if query.sort is not None:
        cursor.sort([query.sort])
    return await cursor.to_list(query.limit)


async def _find_in_one_reply(members: Collection, query: Find) -> list[Document] | None:
    """Return the documents; None if they do not fit into one reply."""
    command: dict[str, Any] = {
        "find": members.name,
        "filter": query.matching,
        "projection": query.shown,
        "hint": dict(query.index),
        "limit": query.limit,
        "batchSize": query.limit + 1,  # with a full batch, MongoDB may leave the cursor open
        "readConcern": members.read_concern.document,
    }
    if query.sort is not None:
        command["sort"] = dict([query.sort])
    options = cast(Any, members.codec_options)  # the types of the driver allow None only
    reply = await members.database.command(command, codec_options=options)
    cursor = reply["cursor"]
    if cursor["id"] == 0:
        return cast(list[Document], cursor["firstBatch"])
    with suppress(OperationFailure):  # it expires
        killed = {"killCursors": members.name, "cursors": [cursor["id"]]}
        await members.database.command(killed)
    return None
