"""The history of a member: who changed what."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from tornado_members.audit import Place
from tornado_members.auth.permissions import DELETE
from tornado_members.errors import BadParameter
from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.members import parse_member_id

_DEFAULT_LIMIT: Final = 50
_MAX_LIMIT: Final = 1000
_LIMIT: Final = re.compile(rb"[0-9]{1,4}")
_LAST_VERSION: Final = 2**63 - 1
# The version and the id of a record, which is all that a cursor says.
_CURSOR: Final = re.compile(rb"([0-9]{1,19})-([0-9a-f]{24})")


class HistoryHandler(BaseHandler):
    """/members/{memberId}/history"""

    route = "/members/{memberId}/history"
    # Who may remove a member for good may see what became of it, and by whom.
    permissions = {"GET": DELETE, "HEAD": DELETE}

    async def get(self, text: str) -> None:
        """A page of a member's changes, the newest first."""
        member_id, query = parse_member_id(text), parse_query(self.request.query_arguments)
        found = await self.services.directory.history(
            member_id, after=query.after, limit=query.limit + 1
        )
        page = found[: query.limit]
        following = None
        if len(found) > query.limit:
            following = _next_path(member_id, query.limit, page[-1].place)
            self.set_header("Link", f'<{following}>; rel="next"')
        body = {"items": [record.to_dict() for record in page], "next": following}
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self.answer_compressible(content.encode())

    head = get


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """How many records are asked for, and behind which one."""

    limit: int
    after: Place | None


def parse_query(arguments: Mapping[str, Sequence[bytes]]) -> HistoryQuery:
    """The query of a history. Raises BadParameter."""
    for name, values in arguments.items():
        if name not in ("limit", "after"):
            shown = name[:50].encode("latin-1").decode("utf-8", "replace")  # as Tornado decodes it
            raise BadParameter(shown, "is not a parameter; there are limit and after")
        if len(values) > 1:
            raise BadParameter(name, "is given more than once")
    limit = (arguments.get("limit") or [b"%d" % _DEFAULT_LIMIT])[0]
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= _MAX_LIMIT:
        raise BadParameter("limit", f"should be a number from 1 to {_MAX_LIMIT}")
    if "after" not in arguments:
        return HistoryQuery(int(limit), None)
    cursor = _CURSOR.fullmatch(arguments["after"][0])
    if not cursor or int(cursor[1]) > _LAST_VERSION:
        raise BadParameter("after", "is not a cursor; take it from 'next'")
    return HistoryQuery(int(limit), Place(int(cursor[1]), cursor[2].decode()))


def _next_path(member_id: int, limit: int, place: Place) -> str:
    query = {"limit": limit, "after": f"{place.version}-{place.record_id}"}
    return f"/members/{member_id}/history?{urlencode(query)}"
