"""The query of a history, and the address of its next page."""

import re
from typing import Final
from urllib.parse import urlencode

from tornado_members.errors import BadParameter
from tornado_members.handlers.parameters import Arguments, number_of
from tornado_members.model.history import Position
from tornado_members.openapi.operation import Parameter

_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 1000
_LAST_VERSION: Final = 2**63 - 1
# A cursor consists of the version and the id of a record.
_CURSOR: Final = re.compile(rb"([0-9]{1,19})-([0-9a-f]{24})")

HISTORY_PARAMETERS: Final = {
    "limit": Parameter(
        "Maximum number of changes per page.",
        {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT, "default": _DEFAULT_LIMIT},
        _DEFAULT_LIMIT,
    ),
    "after": Parameter(
        "The cursor in `next` of the previous page.",
        {"type": "string", "pattern": "^[0-9]{1,19}-[0-9a-f]{24}$"},
    ),
}


def parse_history_query(arguments: Arguments) -> tuple[int, Position | None]:
    """Return the number of changes requested, and the one to begin after. Raises BadParameter."""
    limit = number_of(arguments, "limit", _MAX_LIMIT) or _DEFAULT_LIMIT
    if "after" not in arguments:
        return limit, None
    cursor = _CURSOR.fullmatch(arguments["after"][0])
    if not cursor:
        raise BadParameter("after", "is not a cursor; take it from 'next'")
    return limit, Position(min(int(cursor[1]), _LAST_VERSION), cursor[2].decode())


def next_path(member_id: int, limit: int, position: Position) -> str:
    """Return the address of the page after the one that ends at `position`."""
    query = {"limit": limit, "after": f"{position.version}-{position.record_id}"}
    return f"/members/{member_id}/history?{urlencode(query)}"
