"""The response with a member: its status, headers and body.

The fast path (handlers/member_cache.py) and the handlers send what member_response() returns.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from tornado.httputil import HTTPHeaders, format_timestamp

from tornado_members.errors import PreconditionFailed
from tornado_members.http.conditional import is_not_modified, parse_precondition
from tornado_members.http1.headers import duplicate
from tornado_members.member_entries import Representation
from tornado_members.openapi.operation import JSON

# A response is data, never a page: a browser must not run, frame or guess anything in it.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# Shared caches may not store members; private ones must revalidate them.
PRIVATE: Final = "private, no-cache"
VARY: Final = "Authorization, Accept"

_CACHE = "memcached"  # as Cache-Status names it (RFC 9211)
# A date of whole seconds does not distinguish two changes within one second (RFC 9110 §8.8.2.2).
_SETTLED = timedelta(seconds=2)
_WITHOUT_BODY = HTTPHeaders({**SECURITY_HEADERS, "Cache-Control": PRIVATE, "Vary": VARY})
_WITH_BODY = HTTPHeaders({"Content-Type": JSON, **_WITHOUT_BODY})


class MemberResponse(NamedTuple):
    """A response with a member; `headers` belong to the caller, who may add to them."""

    status: int
    headers: HTTPHeaders
    body: bytes  # empty if the status is 304


def member_response(
    member: Representation, *, status: int = 200, request_headers: HTTPHeaders | None = None
) -> MemberResponse:
    """Build the response with a member, whose version is its ETag (RFC 9110 §8.8.3).

    `request_headers` are those of a read: its conditions are then evaluated (§13.2.2). Raises
    PreconditionFailed.
    """
    body = member.body
    if request_headers is not None:
        if not _allows_read(request_headers, member):
            raise PreconditionFailed
        if _is_known(request_headers, member):
            status, body = 304, b""
    headers = duplicate(_WITHOUT_BODY if status == 304 else _WITH_BODY)
    headers["Etag"] = f'"{member.version}"'
    if member.updated_at and datetime.now(UTC) - member.updated_at > _SETTLED:
        headers["Last-Modified"] = http_date(int(member.updated_at.timestamp()))
    if member.cache_status is not None:
        headers["Cache-Status"] = cache_status(member.cache_status)
    return MemberResponse(status, headers, body)


def cache_status(status: str) -> str:
    """Return the value of the Cache-Status header (RFC 9211)."""
    return f"{_CACHE}; {status}"


def _allows_read(headers: HTTPHeaders, member: Representation) -> bool:
    if "If-Match" not in headers and "If-Unmodified-Since" not in headers:
        return True
    return parse_precondition(headers, of_read=True).allows_read(member.version, member.updated_at)


def _is_known(headers: HTTPHeaders, member: Representation) -> bool:
    """Return True if the client already has this version (RFC 9110 §13.1.2, §13.1.3)."""
    if "If-None-Match" not in headers and "If-Modified-Since" not in headers:
        return False
    return is_not_modified(headers, member.version, member.updated_at)


@lru_cache(1024)
def http_date(seconds: int) -> str:
    """Return an HTTP date (RFC 9110 §5.6.7); `seconds` since the epoch."""
    return format_timestamp(seconds)
