"""Response headers that the fast path and the handlers share."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tornado.httputil import HTTPHeaders, format_timestamp

from tornado_members.directory import Representation
from tornado_members.http.conditional import is_not_modified

# A response is data, never a page: a browser must not run, frame or guess anything in it.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# Shared caches may not store members; private ones must revalidate them.
PRIVATE = "private, no-cache"
VARY = "Authorization, Accept"

_CACHE = "memcached"  # as Cache-Status names it (RFC 9211)
# A date of whole seconds does not distinguish two changes within one second (RFC 9110 §8.8.2.2).
_SETTLED = timedelta(seconds=2)


def cache_status(status: str) -> str:
    """Return the value of the Cache-Status header (RFC 9211)."""
    return f"{_CACHE}; {status}"


def validators(member: Representation) -> Iterator[tuple[str, str]]:
    """Yield the validator headers of a member (RFC 9110 §8.8)."""
    yield "Etag", f'"{member.version}"'
    if member.updated_at and datetime.now(UTC) - member.updated_at > _SETTLED:
        yield "Last-Modified", http_date(int(member.updated_at.timestamp()))


def is_known(headers: HTTPHeaders, member: Representation) -> bool:
    """True if the client already has this version (RFC 9110 §13.1.2, §13.1.3)."""
    if "If-None-Match" not in headers and "If-Modified-Since" not in headers:
        return False
    return is_not_modified(headers, member.version, member.updated_at)


@lru_cache(1024)
def http_date(seconds: int) -> str:
    """Return an HTTP date (RFC 9110 §5.6.7); `seconds` since the epoch."""
    return format_timestamp(seconds)
