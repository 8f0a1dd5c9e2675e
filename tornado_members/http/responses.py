"""What answers say beside their bodies, the same whoever gives them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tornado.httputil import HTTPHeaders, format_timestamp

from tornado_members.directory import Representation
from tornado_members.http.conditional import is_not_modified

# An answer is data, never a page: whatever it holds, a browser runs, frames and guesses nothing.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# A shared cache may not keep members, and any other asks whether they are still the same.
PRIVATE = "private, no-cache"
VARY = "Authorization, Accept"

_CACHE = "memcached"  # as Cache-Status names it (RFC 9211)
# Within one second a member may change twice, and a date tell nothing (RFC 9110 §8.8.2.2).
_SETTLED = timedelta(seconds=2)


def cache_status(status: str) -> str:
    """How the cache served a read, as a header says it (RFC 9211)."""
    return f"{_CACHE}; {status}"


def validators(member: Representation) -> Iterator[tuple[str, str]]:
    """The headers by which a member is known again (RFC 9110 §8.8)."""
    yield "Etag", f'"{member.version}"'
    if member.updated_at and datetime.now(UTC) - member.updated_at > _SETTLED:
        yield "Last-Modified", http_date(int(member.updated_at.timestamp()))


def is_known(headers: HTTPHeaders, member: Representation) -> bool:
    """Whether a reader has this version already (RFC 9110 §13.1.2, §13.1.3)."""
    if "If-None-Match" not in headers and "If-Modified-Since" not in headers:
        return False
    return is_not_modified(headers, member.version, member.updated_at)


@lru_cache(1024)
def http_date(seconds: int) -> str:
    """Seconds since the epoch as a date (RFC 9110 §5.6.7)."""
    return format_timestamp(seconds)
