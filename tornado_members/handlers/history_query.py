"""The query of a history, and where its next page is."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from tornado_members.errors import BadParameter
from tornado_members.model.history import Position
from tornado_members.openapi.operation import Parameter

_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 1000
_LAST_VERSION: Final = 2**63 - 1
_LIMIT: Final = re.compile(rb"[0-9]{1,4}")
# The version and the id of a record, which is all that a cursor says.
_CURSOR: Final = re.compile(rb"([0-9]{1,19})-([0-9a-f]{24})")

HISTORY_PARAMETERS: Final = {
    "limit": Parameter(
        "Changes on a page, at most.",
        {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT, "default": _DEFAULT_LIMIT},
        _DEFAULT_LIMIT,
    ),
    "after": Parameter(
        "Where the page before this one ended: take it from its `next`.",
        {"type": "string", "pattern": "^[0-9]{1,19}-[0-9a-f]{24}$"},
    ),
}


def parse_history_query(arguments: Mapping[str, Sequence[bytes]]) -> tuple[int, Position | None]:
    """How many changes are asked for, and behind which one. Raises BadParameter."""
    limit = (arguments.get("limit") or [b"%d" % _DEFAULT_LIMIT])[0]
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= _MAX_LIMIT:
        raise BadParameter("limit", f"should be a number from 1 to {_MAX_LIMIT}")
    if "after" not in arguments:
        return int(limit), None
    cursor = _CURSOR.fullmatch(arguments["after"][0])
    if not cursor:
        raise BadParameter("after", "is not a cursor; take it from 'next'")
    return int(limit), Position(min(int(cursor[1]), _LAST_VERSION), cursor[2].decode())


def next_path(member_id: int, limit: int, position: Position) -> str:
    """Where the page behind the one that ends there is."""
    query = {"limit": limit, "after": f"{position.version}-{position.record_id}"}
    return f"/members/{member_id}/history?{urlencode(query)}"
