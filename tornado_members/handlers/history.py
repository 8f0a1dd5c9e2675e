"""The history of a member: its changes and their authors."""

import json
from logging import getLogger
from typing import Final

from tornado_members.auth.permissions import DELETE
from tornado_members.errors import DependencyUnavailable, MemberNotFound
from tornado_members.handlers.declarations import MEMBER_HEADERS
from tornado_members.handlers.history_query import (
    HISTORY_PARAMETERS,
    next_path,
    parse_history_query,
)
from tornado_members.handlers.member import parse_member_id
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.in_turns import map_in_turns
from tornado_members.openapi.examples import example_history
from tornado_members.openapi.operation import JSON, Operation, Response
from tornado_members.openapi.schemas import reference
from tornado_members.telemetry.logs import fields

log = getLogger(__name__)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

FIND_HISTORY: Final = Operation(
    name="findHistory",
    summary="List the changes of a member, newest first",
    tag="members",
    # Records name the callers, so they are for administrators.
    permission=DELETE,
    query=HISTORY_PARAMETERS,
    responses={
        200: Response(
            "A page of changes, newest first",
            {JSON: reference("HistoryPage")},
            {JSON: example_history},
            headers=MEMBER_HEADERS,
            may_have=("Link", "Content-Encoding"),
        )
    },
    problems=(MemberNotFound, DependencyUnavailable),
    description="Includes deleted members, until their records expire (`audit.keep_days`).",
)
ERASE_HISTORY: Final = Operation(
    name="eraseHistory",
    summary="Erase the personal values in the history of a member",
    tag="members",
    permission=DELETE,
    responses={204: Response("The values are erased")},
    problems=(MemberNotFound, DependencyUnavailable),
    description="The records keep `version`, `kind`, `at`, `by` and `requestId`. The member itself "
    "is not changed, and its later changes are recorded with their values.",
)


class HistoryHandler(MemberResourceHandler):
    """/members/{memberId}/history"""

    route = "/members/{memberId}/history"
    operations = {"GET": FIND_HISTORY, "HEAD": FIND_HISTORY, "DELETE": ERASE_HISTORY}

    async def get(self, text: str) -> None:
        """Send a page of changes."""
        member_id = parse_member_id(text)
        limit, after = parse_history_query(self.request.query_arguments)
        async with self.reading(limit):
            found = await self.services.directory.history(member_id, after=after, limit=limit + 1)
            page = found[:limit]
            following = None
            if len(found) > limit:
                following = self.address(next_path(member_id, limit, page[-1].position))
                self.set_header("Link", f'<{following}>; rel="next"')
            items = await map_in_turns(lambda record: _encode(record.to_dict()), page)
            body = f'{{"items":[{",".join(items)}],"next":{_encode(following)}}}'
            await self.send_json(body.encode())

    head = get

    async def delete(self, text: str) -> None:
        """Erase the values in all records of the member."""
        member_id = parse_member_id(text)
        await self.services.directory.erase_history(member_id)
        subject = self.caller.subject if self.caller else None
        log.info(
            "erased the history of a member",
            extra=fields(request_id=self.request_id, member_id=member_id, subject=subject),
        )
        self.set_status(204)
