"""The header fields of requests and responses, for /openapi.json."""

from collections.abc import Mapping
from typing import Any, Final

_STRING: Final = {"type": "string"}
_DATE: Final = {
    "type": "string",
    "pattern": r"^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$",
}

# Without examples: the page at /docs would fill them in.
REQUEST_HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "X-Request-Id": {
        "description": "An id for this request, which the response and the log repeat: 1 to 128 "
        "letters, digits and `. _ : / + = -`. An invalid id is replaced.",
        "schema": _STRING,
    },
    "Cache-Control": {
        "description": "`no-cache` reads MongoDB, not the cache. Other directives are ignored.",
        "schema": _STRING,
    },
    "Prefer": {
        "description": "`count=exact` (RFC 7240): the response has the number of matching members, "
        "whose cost grows with that number. Other preferences are ignored.",
        "schema": _STRING,
    },
    "Prefer.write": {
        "description": "`return=minimal` (RFC 7240): the response is a 204 without a body. Other "
        "preferences are ignored.",
        "schema": _STRING,
    },
    "Last-Event-ID": {
        "description": "Resume after this event. Browsers send it when they reconnect.",
        "schema": _STRING,
    },
    "If-None-Match": {
        "description": 'On a read: 304 if the current version has one of these tags (`"7"`, '
        "weak comparison). An invalid list of tags is ignored.",
        "schema": _STRING,
    },
    "If-Modified-Since": {
        "description": "304 if the member was not changed since this date, unless If-None-Match is "
        "present. An invalid date (not `Sun, 22 Nov 2026 11:05:42 GMT`) is ignored.",
        "schema": _STRING,
    },
    "If-Match": {
        "description": '412 unless the current version has one of these tags (`"7"`, `"8"`), '
        "or the member exists (`*`). Strong comparison: a weak tag never matches. An invalid list "
        "of tags is a 400.",
        "schema": _STRING,
    },
    "If-None-Match.write": {
        "description": "412 if the current version has one of these tags; `*`: 412 if the member "
        "exists, so that nothing is replaced. An invalid list of tags is a 400.",
        "schema": _STRING,
    },
    "If-Unmodified-Since": {
        "description": "412 if the member was changed after this date, in whole seconds, unless "
        "If-Match is present. An invalid date is ignored.",
        "schema": _STRING,
    },
}

# Each has a description, a schema and an example.
RESPONSE_HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "X-Request-Id": {
        "description": "The id of this request: the one that was sent, if valid. The log has it.",
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9._:/+=-]{1,128}$"},
        "example": "2f1c9a7e0b1d4c55a1b5c0b4d7a3e6f0",
    },
    "ETag": {
        "description": "The version of the representation. That of a member is a whole number, "
        "which every change increments. Send it in If-Match or If-None-Match.",
        "schema": {"type": "string", "pattern": r'^"[\x21\x23-\x7e]+"$'},
        "example": '"7"',
    },
    "Last-Modified": {
        "description": "The date of the last change. Absent for two seconds after a change: "
        "another change in the same second would have the same date.",
        "schema": _DATE,
        "example": "Sun, 22 Nov 2026 11:05:42 GMT",
    },
    "Cache-Status": {
        "description": "States how the cache served this read (RFC 9211).",
        "schema": {"type": "string", "pattern": r"^memcached; (?:hit|fwd=)"},
        "example": "memcached; hit",
    },
    "Cache-Control": {
        "description": "Controls which caches may store this response, and for how long.",
        "schema": _STRING,
        "example": "private, no-cache",
    },
    "Vary": {
        "description": "The request header fields on which this response depends.",
        "schema": _STRING,
        "example": "Authorization, Accept",
    },
    "Link": {
        "description": "The next page, as in `next` (RFC 8288).",
        "schema": {"type": "string", "pattern": r'^<[^>]+>; rel="next"$'},
        "example": '</members?limit=50&sort=memberId&after=WyJtZW1iZXJJZCIsNTBd>; rel="next"',
    },
    "Changes-After": {
        "description": "On an export: a cursor of the change feed from before the export began. A "
        "copy made from the export and the changes after this cursor misses nothing.",
        "schema": {"type": "string", "pattern": "^[0-9A-Fa-f]+$"},
        "example": "8267a1b2c3000000012b042c0100296e04",
    },
    "Content-Disposition": {
        "description": "On an export: a file name.",
        "schema": {"type": "string", "pattern": "^attachment; filename="},
        "example": 'attachment; filename="members.csv"',
    },
    "X-Ignored-Columns": {
        "description": "Headings of columns and names of fields that are ignored, percent-encoded.",
        "schema": _STRING,
        "example": "Shoe%20size",
    },
    "X-Header-Line": {
        "description": "The line that names the columns, if it is not the first one.",
        "schema": {"type": "integer", "minimum": 2},
        "example": 4,
    },
    "X-Total-Count": {
        "description": "The number of members that match, if Prefer requested it.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 1234,
    },
    "Preference-Applied": {
        "description": "The preferences that were applied (RFC 7240).",
        "schema": {"enum": ["count=exact", "return=minimal"]},
        "example": "count=exact",
    },
    "Location": {
        "description": "The address of the new member.",
        "schema": {"type": "string", "pattern": r"/members/[1-9][0-9]*$"},
        "example": "/members/42",
    },
    "Location.user": {
        "description": "The address of the new user.",
        "schema": {"type": "string", "pattern": "/users/[^/]+$"},
        "example": "/users/ada",
    },
    "Content-Location": {
        "description": "The address of this member by its id, which a rename does not change.",
        "schema": {"type": "string", "pattern": r"/members/[1-9][0-9]*$"},
        "example": "/members/42",
    },
    "Content-Encoding": {
        "description": "gzip, if the caller accepts it and the body is not small.",
        "schema": {"const": "gzip"},
        "example": "gzip",
    },
    "Content-Security-Policy": {
        "description": "Restricts what a browser may do with this response.",
        "schema": _STRING,
        "example": "default-src 'none'; frame-ancestors 'none'",
    },
    "Allow": {
        "description": "The methods that this path supports.",
        "schema": {"type": "string", "pattern": r"^[A-Z]+(?:, [A-Z]+)*$"},
        "example": "GET, HEAD, OPTIONS",
    },
    "Accept-Post": {
        "description": "On a 415: the media types that POST supports here.",
        "schema": _STRING,
        "example": "application/json",
    },
    "Accept-Patch": {
        "description": "On a 415: the media type that PATCH supports here (RFC 5789).",
        "schema": _STRING,
        "example": "application/merge-patch+json",
    },
    "Accept-Encoding": {
        "description": "On a 415 for a body with a Content-Encoding: none is supported.",
        "schema": _STRING,
        "example": "identity",
    },
    "WWW-Authenticate": {
        "description": "The reason why the token was refused (RFC 6750 §3).",
        "schema": {"type": "string", "pattern": "^Bearer "},
        "example": 'Bearer realm="members"',
    },
    "Retry-After": {
        "description": "Seconds to wait before a retry.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
}
