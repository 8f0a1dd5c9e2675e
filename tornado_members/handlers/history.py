"""The history of a member: who changed what."""

import json

from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.history_query import next_path, parse_history_query
from tornado_members.handlers.members import parse_member_id
from tornado_members.handlers.operations import FIND_HISTORY


class HistoryHandler(BaseHandler):
    """/members/{memberId}/history"""

    route = "/members/{memberId}/history"
    operations = {"GET": FIND_HISTORY, "HEAD": FIND_HISTORY}

    async def get(self, text: str) -> None:
        """A page of a member's changes, the newest first."""
        member_id = parse_member_id(text)
        limit, after = parse_history_query(self.request.query_arguments)
        found = await self.services.directory.history(member_id, after=after, limit=limit + 1)
        page = found[:limit]
        following = None
        if len(found) > limit:
            following = next_path(member_id, limit, page[-1].place)
            self.set_header("Link", f'<{following}>; rel="next"')
        body = {"items": [record.to_dict() for record in page], "next": following}
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self.answer_compressible(content.encode())

    head = get
