"""The identity and the permissions of the caller."""

import json
from typing import Final

from tornado_members.errors import (
    DependencyUnavailable,
    TokenInvalid,
    TokenMissing,
    TooManyRequests,
)
from tornado_members.handlers.base import BaseHandler
from tornado_members.openapi.operation import JSON, Operation, Response
from tornado_members.openapi.schemas import reference

FIND_CALLER: Final = Operation(
    name="findCaller",
    summary="Read the identity and the permissions of the caller",
    tag="login",
    requires_token=True,
    responses={
        200: Response(
            "The caller",
            {JSON: reference("Caller")},
            {
                JSON: {
                    "issuer": "tornado-members",
                    "subject": "ada",
                    "permissions": ["members:read", "members:write"],
                    "memberId": None,
                }
            },
            headers=("Cache-Control",),
        )
    },
    problems=(TokenMissing, TokenInvalid, TooManyRequests, DependencyUnavailable),
)


class CallerHandler(BaseHandler):
    """/caller"""

    route = "/caller"
    operations = {"GET": FIND_CALLER, "HEAD": FIND_CALLER}

    async def get(self) -> None:
        """Send the caller."""
        caller = self.caller
        if caller is None:
            raise TokenMissing
        self.set_header("Content-Type", JSON)
        self.set_header("Cache-Control", "no-store")
        self.finish(
            json.dumps(
                {
                    "issuer": caller.issuer,
                    "subject": caller.subject,
                    "permissions": sorted(caller.permissions),
                    "memberId": caller.member_id,
                }
            )
        )

    head = get
