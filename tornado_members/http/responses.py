"""Responses with one or more members: status, headers and body.

The fast path (handlers/member_cache.py) and the handlers send what member_response() and
batch_response() return.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from http.client import responses
from typing import Final, NamedTuple

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    ResponseStartLine,
    format_timestamp,
)

from tornado_members.http.conditional import is_not_modified
from tornado_members.http.encoding import accepts_gzip, compressed
from tornado_members.http1.exchange import Exchange
from tornado_members.member_entries import MemberBatch, Representation
from tornado_members.openapi.operation import JSON

# A response is data, not a page: a browser must not execute, frame or sniff it.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# Shared caches may not store members; private ones must revalidate them.
PRIVATE: Final = "private, no-cache"
VARY: Final = "Authorization, Accept"

_LONG: Final = 128 * 1024  # bytes, which take some milliseconds to compress
_CACHE = "memcached"  # as Cache-Status names it (RFC 9211)
# A date of whole seconds does not distinguish two changes within one second (RFC 9110 §8.8.2.2).
_SETTLED_SECONDS: Final = 2


class MemberResponse(NamedTuple):
    """A response with members, without the headers that all responses have."""

    status: int
    headers: dict[str, str]  # those of this response; the caller may add to them
    body: bytes  # empty if the status is 304
    vary: str = VARY


def member_response(
    member: Representation,
    *,
    status: int = 200,
    request_headers: HTTPHeaders | None = None,
    address: str | None = None,
) -> MemberResponse:
    """Build the response with a member, whose version is its ETag (RFC 9110 §8.8.3).

    `request_headers` are those of a read: its conditions are then evaluated (§13.2.2). With
    `address`, the response has a Content-Location, which a rename does not change (§8.7). Raises
    PreconditionFailed.
    """
    headers = {"Content-Location": address} if address is not None else {}
    headers["Etag"] = f'"{member.version}"'
    if member.updated_at:
        changed_at, date = _change(member.updated_at)
        if time.time() - changed_at > _SETTLED_SECONDS:
            headers["Last-Modified"] = date
    if member.cache_status is not None:
        headers["Cache-Status"] = cache_status(member.cache_status)
    if request_headers is not None and is_not_modified(
        request_headers, member.version, member.updated_at
    ):
        return MemberResponse(304, headers, b"")
    return MemberResponse(status, headers, member.body)


def batch_response(batch: MemberBatch, *, request_headers: HTTPHeaders) -> MemberResponse:
    """Build the response with several members. Like a list, it has no ETag."""
    body = b'{"items":[%b],"missing":[%b],"next":null}' % (
        b",".join(batch.bodies),
        b",".join([b"%d" % member_id for member_id in batch.missing]),
    )
    response = json_response(body, request_headers=request_headers)
    response.headers["Cache-Status"] = cache_status(batch.cache_status)
    return response


def page_response(
    items: bytes, following: str | None, *, request_headers: HTTPHeaders
) -> MemberResponse:
    """Build the response with a page of members; `following` is the address of the next page."""
    body = b'{"items":[%b],"next":%b}' % (items, json.dumps(following).encode())
    response = json_response(body, request_headers=request_headers)
    if following is not None:
        response.headers["Link"] = f'<{following}>; rel="next"'
    return response._replace(vary=f"Prefer, {response.vary}")


def json_response(body: bytes, *, request_headers: HTTPHeaders) -> MemberResponse:
    """Build a response about members, compressed if the caller accepts gzip; it has no ETag."""
    headers = {}
    if "Accept-Encoding" in request_headers:
        shorter = compressed(body) if accepts_gzip(request_headers["Accept-Encoding"]) else None
        if shorter is not None:
            headers["Content-Encoding"] = "gzip"
            body = shorter
    return MemberResponse(200, headers, body, f"Accept-Encoding, {VARY}")


def takes_long(found: Representation | MemberBatch, headers: HTTPHeaders) -> bool:
    """Return True if a thread should compress the response to a request with these headers."""
    if not isinstance(found, MemberBatch) or "Accept-Encoding" not in headers:
        return False
    return sum(map(len, found.bodies)) > _LONG


async def build_response(build: Callable[[], MemberResponse], size: int) -> MemberResponse:
    """Call `build`, in a thread if the body is so long that it would delay other requests."""
    return await asyncio.to_thread(build) if size > _LONG else build()


class PreparedHeaders:
    """The headers of responses with members, as lines in which a few values are missing.

    They equal those that a handler sends, in the same order.
    """

    def __init__(self, cors: Mapping[str, str]) -> None:
        """`cors` are the headers of cross_origin_headers() for the origin of the requests."""
        fixed = {**SECURITY_HEADERS, **cors, "Cache-Control": PRIVATE}
        values = {name: value.replace("%", "%%") for name, value in fixed.items()}
        values["Vary"] = f"{values['Vary']}, %s" if "Vary" in values else "%s"
        lines = [f"{name}: {value}\r\n" for name, value in values.items()]
        self._without_content = f"Date: %s\r\nX-Request-Id: %s\r\n{''.join(lines)}%s"
        content = f"Content-Type: {JSON}\r\n", "Content-Length: %d\r\n"
        self._with_content = self._without_content.join(content)

    def fill(self, response: MemberResponse, request_id: str) -> bytes:
        """Return the header lines of a response that is sent now."""
        own = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()])
        values = (http_date(int(time.time())), request_id, response.vary, own)
        if response.status == 304:
            return (self._without_content % values).encode("latin-1")
        return (self._with_content % (*values, len(response.body))).encode("latin-1")


def send_prepared(
    connection: HTTPConnection, status: int, header_lines: bytes, body: bytes
) -> None:
    """Send a whole response, on the HTTP server of this project or on Tornado's."""
    if isinstance(connection, Exchange):
        connection.respond(status, header_lines, body)
        return
    start_line = ResponseStartLine("", status, responses[status])
    headers = HTTPHeaders.parse(header_lines.decode("latin-1"))
    connection.write_headers(start_line, headers, body or None)
    connection.finish()


def cache_status(status: str) -> str:
    """Return the value of the Cache-Status header (RFC 9211)."""
    return f"{_CACHE}; {status}"


@lru_cache(4096)
def _change(updated_at: datetime) -> tuple[float, str]:
    """Return a time in seconds since the epoch, and as an HTTP date."""
    seconds = updated_at.timestamp()
    return seconds, http_date(int(seconds))


@lru_cache(1024)
def http_date(seconds: int) -> str:
    """Return an HTTP date (RFC 9110 §5.6.7); `seconds` since the epoch."""
    return format_timestamp(seconds)
