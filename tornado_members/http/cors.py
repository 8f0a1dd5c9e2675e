"""Cross-origin requests of scripts in browsers (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol).

The service uses no cookies, so requests never carry ambient credentials: a script sends its token
itself, and the origin `*` is safe to allow.
"""

from collections.abc import Mapping
from typing import Final

from tornado_members.settings import Cors

# Request headers that a script may set, beyond those of an HTML form.
_REQUEST_HEADERS: Final = (
    "Authorization, Content-Type, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, "
    "Cache-Control, Last-Event-ID, Prefer, X-Request-Id, traceparent, tracestate"
)
# Response headers that a script may read, beyond the safelisted ones.
_RESPONSE_HEADERS: Final = (
    "ETag, Link, Location, Content-Location, X-Total-Count, Preference-Applied, X-Request-Id, "
    "Cache-Status, Retry-After, WWW-Authenticate, Allow, Accept-Patch, Accept-Post, "
    "Content-Disposition, X-Ignored-Columns, X-Header-Line, Changes-After"
)


def cross_origin_headers(rules: Cors, origin: str | None) -> Mapping[str, str]:
    """Return the CORS headers of a response.

    If the response depends on the origin, it has `Vary`, also for origins that are not allowed.
    """
    vary = {"Vary": "Origin"} if rules.origins and "*" not in rules.origins else {}
    if origin is None or not _is_allowed(rules, origin):
        return vary
    return {
        **vary,
        "Access-Control-Allow-Origin": "*" if "*" in rules.origins else origin,
        "Access-Control-Expose-Headers": _RESPONSE_HEADERS,
    }


def preflight_headers(rules: Cors, origin: str | None, methods: str) -> Mapping[str, str]:
    """Return the further headers of a preflight response."""
    if origin is None or not _is_allowed(rules, origin):
        return {}
    return {
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": ", ".join([_REQUEST_HEADERS, *rules.request_headers]),
        "Access-Control-Max-Age": str(rules.max_age_seconds),
    }


def _is_allowed(rules: Cors, origin: str) -> bool:
    return "*" in rules.origins or origin in rules.origins
