"""The header fields of requests and answers, as /openapi.json describes them."""

from collections.abc import Mapping
from typing import Any, Final

_STRING: Final = {"type": "string"}
_DATE: Final = {
    "type": "string",
    "pattern": r"^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$",
}

# They have no examples, since a page to try them on would fill those in.
REQUEST_HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "X-Request-Id": {
        "description": "Your name for this request, which the answer and the log repeat: 1 to 128 "
        "letters, digits and `. _ : / + = -`. Anything else is replaced.",
        "schema": _STRING,
    },
    "Cache-Control": {
        "description": "`no-cache` reads the database, past the cache. Anything else is ignored.",
        "schema": _STRING,
    },
    "Prefer": {
        "description": "`count=exact` (RFC 7240): the answer says how many members the whole list "
        "has, which takes the longer the more they are. Any other preference is ignored.",
        "schema": _STRING,
    },
    "If-None-Match": {
        "description": 'On a read: 304 if what is there still has one of these tags (`"7"`, '
        "compared weakly); what is no list of tags is ignored.",
        "schema": _STRING,
    },
    "If-Modified-Since": {
        "description": "304 if the member was not changed since, unless there is If-None-Match; "
        "what is no date (`Sun, 22 Nov 2026 11:05:42 GMT`) is ignored.",
        "schema": _STRING,
    },
    "If-Match": {
        "description": 'Only if the member is in one of these versions (`"7"`, or `"7", "8"`), or '
        "is there at all (`*`): else 412. Compared strongly: a weak tag never matches. What is no "
        "list of tags is a 400.",
        "schema": _STRING,
    },
    "If-None-Match.write": {
        "description": "Only if the member is in none of these versions; `*`: only if there is "
        "none, so that nothing is replaced. Else 412. What is no list of tags is a 400.",
        "schema": _STRING,
    },
    "If-Unmodified-Since": {
        "description": "Only if the member was not changed since, in whole seconds, unless there "
        "is If-Match: else 412. What is no date is ignored.",
        "schema": _STRING,
    },
}

# Each has a description, a schema and an example.
ANSWER_HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "X-Request-Id": {
        "description": "The name of this request: yours, if it was sane. The log has it.",
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9._:/+=-]{1,128}$"},
        "example": "2f1c9a7e0b1d4c55a1b5c0b4d7a3e6f0",
    },
    "ETag": {
        "description": "The version of what is in the body; a member's is a whole number that "
        "each change raises. Send it back in If-Match or If-None-Match.",
        "schema": {"type": "string", "pattern": r'^"[\x21\x23-\x7e]+"$'},
        "example": '"7"',
    },
    "Last-Modified": {
        "description": "When the member was last changed. Left out for two seconds after a change, "
        "since another one in the same second would have the same date.",
        "schema": _DATE,
        "example": "Sun, 22 Nov 2026 11:05:42 GMT",
    },
    "Cache-Status": {
        "description": "How the cache served this read (RFC 9211).",
        "schema": {"type": "string", "pattern": r"^memcached; (?:hit|fwd=)"},
        "example": "memcached; hit",
    },
    "Cache-Control": {
        "description": "Who may keep this answer, and for how long.",
        "schema": _STRING,
        "example": "private, no-cache",
    },
    "Vary": {
        "description": "The request's header fields on which this answer depends.",
        "schema": _STRING,
        "example": "Authorization, Accept",
    },
    "Link": {
        "description": "The next page, as `next` in the body has it (RFC 8288).",
        "schema": {"type": "string", "pattern": r'^<[^>]+>; rel="next"$'},
        "example": '</members?limit=50&sort=memberId&after=WyJtZW1iZXJJZCIsNTBd>; rel="next"',
    },
    "Content-Disposition": {
        "description": "On a stream: a name for the file.",
        "schema": {"type": "string", "pattern": "^attachment; filename="},
        "example": 'attachment; filename="members.csv"',
    },
    "X-Ignored-Columns": {
        "description": "Headings of columns that were not used, percent-encoded.",
        "schema": _STRING,
        "example": "Shoe%20size",
    },
    "X-Total-Count": {
        "description": "How many members the whole list has, if Prefer asked for it.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 1234,
    },
    "Preference-Applied": {
        "description": "What Prefer asked for and was done (RFC 7240).",
        "schema": {"const": "count=exact"},
        "example": "count=exact",
    },
    "Location": {
        "description": "Where the new member is from now on.",
        "schema": {"type": "string", "pattern": r"^/members/[1-9][0-9]*$"},
        "example": "/members/42",
    },
    "Content-Location": {
        "description": "The address of this member that does not change with its name.",
        "schema": {"type": "string", "pattern": r"^/members/[1-9][0-9]*$"},
        "example": "/members/42",
    },
    "Content-Encoding": {
        "description": "gzip, for those who accept it, if the body is not small anyway.",
        "schema": {"const": "gzip"},
        "example": "gzip",
    },
    "Content-Security-Policy": {
        "description": "What a browser lets this answer do.",
        "schema": _STRING,
        "example": "default-src 'none'; frame-ancestors 'none'",
    },
    "Allow": {
        "description": "The methods that this path has.",
        "schema": {"type": "string", "pattern": r"^[A-Z]+(?:, [A-Z]+)*$"},
        "example": "GET, HEAD, OPTIONS",
    },
    "Accept-Post": {
        "description": "On a 415: the media type that a POST takes here.",
        "schema": _STRING,
        "example": "application/json",
    },
    "Accept-Patch": {
        "description": "On a 415: the media type that a PATCH takes here (RFC 5789).",
        "schema": _STRING,
        "example": "application/merge-patch+json",
    },
    "Accept-Encoding": {
        "description": "On a 415 for a body with a Content-Encoding: it should have none.",
        "schema": _STRING,
        "example": "identity",
    },
    "WWW-Authenticate": {
        "description": "What is wrong with the token, or lacking (RFC 6750 §3).",
        "schema": {"type": "string", "pattern": "^Bearer "},
        "example": 'Bearer realm="members"',
    },
    "Retry-After": {
        "description": "Seconds to wait before another try.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
}
