"""Conditional requests: headers to preconditions (RFC 9110 §13)."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tornado.httputil import HTTPHeaders

from tornado_members.errors import BadRequest, PreconditionFailed
from tornado_members.model.precondition import Precondition

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# §5.6.1: empty elements are ignored, and a list may be empty.
_TAGS = re.compile(rf"[\s,]*(?:{_TAG}(?:\s*,[\s,]*{_TAG})*[\s,]*)?")
_VERSION = re.compile(r'"([1-9][0-9]{0,18})"')
_CONDITIONS = frozenset({"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"})


def has_conditions(headers: HTTPHeaders) -> bool:
    """Return True if the response to a read may depend on its headers (§13.1)."""
    return not _CONDITIONS.isdisjoint(headers)


def parse_precondition(headers: HTTPHeaders, *, of_read: bool = False) -> Precondition:
    """Return the precondition of a request; for a read, without If-None-Match.

    Raises BadRequest for malformed entity tags, and PreconditionFailed if If-Match has weak ones
    only, which match no version (§8.8.3.2).
    """
    match = _tags(headers, "If-Match")
    if match and all(tag.startswith("W/") for tag in match):
        raise PreconditionFailed(weak_tag=match[0][:40])
    none_match = None if of_read else _tags(headers, "If-None-Match")
    since = None if match is not None else _date(headers, "If-Unmodified-Since")
    return Precondition(
        must_exist=match is not None,
        one_of=None if match is None or match == ["*"] else _strong(match),
        must_not_exist=none_match == ["*"],
        none_of=_weak(none_match) if none_match else frozenset(),
        unmodified_since=since,
    )


def is_not_modified(headers: HTTPHeaders, version: int, modified: datetime | None) -> bool:
    """Evaluate the conditions of a read (§13.2.2); return True if the response to it is a 304.

    Raises PreconditionFailed, and BadRequest for malformed entity tags in If-Match. In
    If-None-Match, they are ignored: the response is then a full one, which is always correct.
    """
    if "If-Match" in headers or "If-Unmodified-Since" in headers:
        condition = parse_precondition(headers, of_read=True)
        if not condition.allows_read(version, modified):
            raise PreconditionFailed
    if "If-None-Match" not in headers and "If-Modified-Since" not in headers:
        return False
    try:
        tags = _tags(headers, "If-None-Match")
    except BadRequest:
        return False
    if tags is not None:
        return tags == ["*"] or version in _weak(tags)
    since = _date(headers, "If-Modified-Since")
    return since is not None and modified is not None and modified.replace(microsecond=0) <= since


def matches_etag(headers: HTTPHeaders, etag: str) -> bool:
    """True if If-None-Match contains `etag`, by weak comparison (§8.8.3.2)."""
    try:
        tags = _tags(headers, "If-None-Match") or []
    except BadRequest:
        return False
    return tags == ["*"] or etag in [tag.removeprefix("W/") for tag in tags]


def _tags(headers: HTTPHeaders, name: str) -> list[str] | None:
    """Return the entity tags of a header, ["*"] for any; None if the header is absent."""
    if name not in headers:
        return None
    text = headers[name]
    if text.strip() == "*":
        return ["*"]
    if not _TAGS.fullmatch(text):
        raise BadRequest(f'{name} should be * or entity tags in double quotes, such as "7".')
    return re.findall(_TAG, text)


def _strong(tags: list[str]) -> frozenset[int]:
    """Return the versions that match by strong comparison (§8.8.3.2); weak tags never match."""
    return frozenset(int(found[1]) for tag in tags if (found := _VERSION.fullmatch(tag)))


def _weak(tags: list[str]) -> frozenset[int]:
    """Return the versions that match by weak comparison."""
    return _strong([tag.removeprefix("W/") for tag in tags])


def _date(headers: HTTPHeaders, name: str) -> datetime | None:
    """Return the date of a header; None if it is absent or malformed (§13.1.3, §13.1.4)."""
    if name not in headers:
        return None
    try:
        date = parsedate_to_datetime(headers[name])
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
