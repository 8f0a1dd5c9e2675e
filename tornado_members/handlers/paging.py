"""Keyset paging: which page a request asks for, and where the next one is."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from tornado_members.errors import BadParameter
from tornado_members.member import MAX_MEMBER_ID, Member, SortField

_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 1000
_SORTS: Final[Mapping[str, tuple[SortField, bool]]] = {
    "memberId": ("memberId", False),
    "-memberId": ("memberId", True),
    "name": ("name", False),
    "-name": ("name", True),
}


@dataclass(frozen=True, slots=True)
class PageQuery:
    """The query of a list. `after` is the sort key of the last member before the page."""

    limit: int = _DEFAULT_LIMIT
    sort: str = "memberId"
    after: int | str | None = None

    @property
    def field(self) -> SortField:
        """What the list is sorted by."""
        return _SORTS[self.sort][0]

    @property
    def descending(self) -> bool:
        """Whether the greatest comes first."""
        return _SORTS[self.sort][1]

    def next_path(self, page: Sequence[Member]) -> str:
        """Where the page behind this one is."""
        last = page[-1]
        key = last.member_id if self.field == "memberId" else last.name
        query = {"limit": self.limit, "sort": self.sort, "after": _cursor(self.sort, key)}
        return f"/members?{urlencode(query)}"


def parse_page_query(arguments: Mapping[str, Sequence[bytes]]) -> PageQuery:
    """The query of a list. Raises BadParameter for one that is unknown, given twice or wrong."""
    query = PageQuery()
    for name, values in arguments.items():
        if name not in ("limit", "sort", "after"):
            shown = name[:50].encode("latin-1").decode("utf-8", "replace")  # as Tornado decodes it
            raise BadParameter(shown, "is not a parameter; there are limit, sort and after")
        if len(values) > 1:
            raise BadParameter(name, "is given more than once")
    if "limit" in arguments:
        query = replace(query, limit=_parse_limit(arguments["limit"][0]))
    if "sort" in arguments:
        sort = arguments["sort"][0].decode("utf-8", "replace")
        if sort not in _SORTS:
            raise BadParameter("sort", f"should be one of {', '.join(_SORTS)}")
        query = replace(query, sort=sort)
    if "after" in arguments:
        query = replace(query, after=_parse_cursor(arguments["after"][0], query))
    return query


def parse_export_query(
    arguments: Mapping[str, Sequence[bytes]],
) -> tuple[PageQuery, int | None]:
    """The same for an export, and how many members it may have: any number, or None for all."""
    limits = arguments.get("limit", [])
    if len(limits) != 1:
        return parse_page_query(arguments), None
    if not limits[0].isdigit() or len(limits[0]) > 15 or not int(limits[0]):
        raise BadParameter("limit", "should be a number from 1")
    rest = {name: values for name, values in arguments.items() if name != "limit"}
    return parse_page_query(rest), int(limits[0])


def _parse_limit(text: bytes) -> int:
    if not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= _MAX_LIMIT:
        raise BadParameter("limit", f"should be a number from 1 to {_MAX_LIMIT}")
    return int(text)


def _cursor(sort: str, key: int | str) -> str:
    """Opaque to clients; it holds its sort, so that it cannot be used with another."""
    text = json.dumps([sort, key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_cursor(text: bytes, query: PageQuery) -> int | str:
    try:
        padded = text + b"=" * (-len(text) % 4)
        sort, key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        raise BadParameter("after", "is not a cursor; take it from 'next'") from None
    if sort != query.sort:
        raise BadParameter("after", f"is a cursor of another sort than {query.sort}")
    if query.field == "memberId" and type(key) is int and 0 < key <= MAX_MEMBER_ID:
        return key
    if query.field == "name" and isinstance(key, str) and _is_text(key):
        return key
    raise BadParameter("after", "is not a cursor; take it from 'next'")


def _is_text(key: str) -> bool:
    """Whether a string has no lone surrogate, which BSON could not carry."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
