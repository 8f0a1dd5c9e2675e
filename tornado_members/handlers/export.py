"""Exports: all members of a list, as a stream."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from logging import getLogger
from typing import Final

from tornado_members.bulk.csv_export import csv_header, encode_csv
from tornado_members.directory import MemberDirectory
from tornado_members.errors import DependencyUnavailable
from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.paging import parse_csv_options
from tornado_members.http.encoding import GzipStream, accepts_gzip
from tornado_members.http.responses import PRIVATE, VARY
from tornado_members.http.streaming import ClientGone, StreamedResponse
from tornado_members.model.list_query import ListQuery
from tornado_members.model.member import Member
from tornado_members.openapi.operation import CSV, NDJSON
from tornado_members.telemetry.logs import fields

log = getLogger(__name__)

_CONTENT_TYPES: Final = {CSV: "text/csv; charset=utf-8; header=present", NDJSON: NDJSON}
_FILE_NAMES: Final = {CSV: "members.csv", NDJSON: "members.ndjson"}
# Members that are read at once, in some milliseconds. Large members are read in smaller batches.
_FIRST_BATCH: Final = 50
_MOST_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 128 * 1024
_LONGEST_PAUSE: Final = 1.0  # seconds between two attempts at a batch


@dataclass(frozen=True, slots=True)
class _Lines:
    """A page of members, each a line of text."""

    lines: bytes
    count: int
    last: int | str | None  # the sort key of the last member if more may follow


ReadPage = Callable[[ListQuery], Awaitable[_Lines]]


async def export_members(handler: BaseHandler, query: ListQuery, limit: int | None) -> None:
    """Send all members that match, or the first `limit`, in the negotiated media type.

    Raises DependencyUnavailable if MongoDB is unavailable at the first read. A later read waits for
    MongoDB. If that takes too long, the response is aborted, so that no client takes it for
    complete.
    """
    services, media_type = handler.services, handler.media_type
    accepted = ",".join(handler.request.headers.get_list("Accept-Encoding"))
    gzip = GzipStream() if accepts_gzip(accepted) else None
    _set_headers(handler, media_type, is_compressed=gzip is not None)
    response = StreamedResponse(handler, services.write_seconds)
    read: ReadPage = partial(_read_json, services.directory)
    begin = b""
    if media_type == CSV:
        delimiter, bom = parse_csv_options(handler.request.query_arguments)
        encode = partial(encode_csv, fields=services.fields, delimiter=delimiter)
        read = partial(_read_csv, services.directory, encode)
        begin = csv_header(services.fields, delimiter=delimiter, bom=bom)
    try:
        if handler.request.method == "HEAD":
            await response.send_headers()
        else:
            cursor = await services.feed.current_cursor()
            if cursor is not None:
                handler.set_header("Changes-After", cursor)
            retry_seconds = services.rules.transfer_retry_seconds
            async for lines in _pages(read, query, limit, retry_seconds):
                piece, begin = begin + lines, b""
                await response.send(gzip.compress(piece) if gzip else piece)
            await response.send(gzip.end() if gzip else b"")
    except Exception as error:
        if not handler.response_started:
            raise
        # Tornado would end the response as if it were complete.
        if not isinstance(error, ClientGone | DependencyUnavailable):
            extra = fields(request_id=handler.request_id, route=handler.route)
            log.exception("export failed", extra=extra)
        response.abort(error)
    else:
        response.end()


def _set_headers(handler: BaseHandler, media_type: str, *, is_compressed: bool) -> None:
    handler.set_header("Content-Type", _CONTENT_TYPES[media_type])
    handler.set_header("Content-Disposition", f'attachment; filename="{_FILE_NAMES[media_type]}"')
    handler.set_header("Cache-Control", PRIVATE)
    handler.add_vary(f"Prefer, Accept-Encoding, {VARY}")
    if is_compressed:
        handler.set_header("Content-Encoding", "gzip")


async def _pages(
    read: ReadPage, query: ListQuery, limit: int | None, retry_seconds: float
) -> AsyncIterator[bytes]:
    """Yield pages. Each begins after the last member of the previous one, without a cursor."""
    left, batch = limit, _FIRST_BATCH
    query = replace(query, limit=batch if left is None else min(batch, left))
    page = await _read(read, query, retry_seconds=0)
    while True:
        yield page.lines
        left = None if left is None else left - page.count
        if left == 0 or page.last is None:
            return
        batch = _next_batch(page)
        limit_of_page = batch if left is None else min(batch, left)
        query = replace(query, after=page.last, limit=limit_of_page)
        page = await _read(read, query, retry_seconds)


def _next_batch(page: _Lines) -> int:
    """Return the number of members to read next, given the size of those on this page."""
    fitting = _BYTES_AT_ONCE * page.count // max(1, len(page.lines))
    return max(1, min(fitting, _MOST_AT_ONCE))


async def _read(read: ReadPage, query: ListQuery, retry_seconds: float) -> _Lines:
    """Read a page; retry for `retry_seconds`. Raises DependencyUnavailable."""
    deadline = time.monotonic() + retry_seconds
    pause = 0.05
    while True:
        try:
            return await read(query)
        except DependencyUnavailable:
            if time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _read_json(directory: MemberDirectory, query: ListQuery) -> _Lines:
    page = await directory.page_lines(query)
    lines = page.items + b"\n" if page.keys else b""
    return _Lines(lines, len(page.keys), page.keys[-1] if page.has_more else None)


async def _read_csv(
    directory: MemberDirectory, encode: Callable[[Sequence[Member]], bytes], query: ListQuery
) -> _Lines:
    members = await directory.page(query)
    last = query.key_of(members[-1]) if len(members) == query.limit else None
    return _Lines(encode(members), len(members), last)
