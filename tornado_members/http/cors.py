"""Cross-origin requests of scripts in browsers (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol).

There are no cookies here, so nothing is ever sent "with credentials": a script that has a token
sends it itself, and `*` is safe to allow.
"""

from collections.abc import Mapping
from typing import Final

from tornado_members.settings import Cors

# What a script may send beyond what any form could.
_REQUEST_HEADERS: Final = (
    "Authorization, Content-Type, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, "
    "Cache-Control, Prefer, X-Request-Id, traceparent, tracestate"
)
# What a script may read beyond Cache-Control, Content-Type, Last-Modified and their like.
_ANSWER_HEADERS: Final = (
    "ETag, Link, Location, Content-Location, X-Total-Count, Preference-Applied, X-Request-Id, "
    "Cache-Status, Retry-After, WWW-Authenticate, Allow, Accept-Patch, Accept-Post, "
    "Content-Disposition, X-Ignored-Columns"
)


def cross_origin_headers(rules: Cors, origin: str | None) -> Mapping[str, str]:
    """What an answer says to the browser of a script from there; nothing where it may not."""
    if origin is None or not _is_allowed(rules, origin):
        return {}
    return {
        "Access-Control-Allow-Origin": "*" if "*" in rules.origins else origin,
        "Access-Control-Expose-Headers": _ANSWER_HEADERS,
    }


def preflight_headers(rules: Cors, origin: str | None, methods: str) -> Mapping[str, str]:
    """What the answer says on top when a browser asks beforehand."""
    if origin is None or not _is_allowed(rules, origin):
        return {}
    return {
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": _REQUEST_HEADERS,
        "Access-Control-Max-Age": str(rules.max_age_seconds),
    }


def _is_allowed(rules: Cors, origin: str) -> bool:
    return "*" in rules.origins or origin in rules.origins
