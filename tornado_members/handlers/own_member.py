"""The caller's own member, addressed as /members/me."""

from dataclasses import replace
from typing import Final

from tornado_members.errors import MemberNotFound
from tornado_members.handlers.declarations import NOT_MODIFIED, WRITTEN, describe_member
from tornado_members.handlers.member import (
    FIND_MEMBER,
    PATCH_MEMBER,
    REPLACE_MEMBER,
    OneMemberHandler,
)
from tornado_members.http.own_record import is_path_of_own_member
from tornado_members.openapi.operation import Response

_LOCATION: Final = "Content-Location"
_DESCRIPTION: Final = (
    "The member whose id is in the token: in the claim that `member_claim` of its issuer names. "
    "404 if the token has no such claim."
)

FIND_OWN_MEMBER: Final = replace(
    FIND_MEMBER,
    name="findOwnMember",
    summary="Read the caller's own member",
    is_own=is_path_of_own_member,
    responses={
        200: describe_member("The member", _LOCATION, may_have=("Cache-Status",)),
        304: Response(
            NOT_MODIFIED.description,
            headers=(*NOT_MODIFIED.headers, _LOCATION),
            may_have=NOT_MODIFIED.may_have,
        ),
    },
    description=_DESCRIPTION,
)
REPLACE_OWN_MEMBER: Final = replace(
    REPLACE_MEMBER,
    name="replaceOwnMember",
    summary="Replace the caller's own member",
    is_own=is_path_of_own_member,
    responses={200: describe_member("The replaced member", _LOCATION), 204: WRITTEN},
    description=_DESCRIPTION,
)
PATCH_OWN_MEMBER: Final = replace(
    PATCH_MEMBER,
    name="patchOwnMember",
    summary="Change some fields of the caller's own member (JSON merge patch)",
    is_own=is_path_of_own_member,
    responses={200: describe_member("The changed member", _LOCATION), 204: WRITTEN},
    description=_DESCRIPTION,
)


class OwnMemberHandler(OneMemberHandler):
    """/members/me"""

    route = "/members/me"
    operations = {
        "GET": FIND_OWN_MEMBER,
        "HEAD": FIND_OWN_MEMBER,
        "PUT": REPLACE_OWN_MEMBER,
        "PATCH": PATCH_OWN_MEMBER,
    }

    def addressed_member(self, *path: str) -> int:  # noqa: ARG002  # of MemberHandler
        """Return the id in the token, and send its address as Content-Location (RFC 9110 §8.7)."""
        member_id = self.caller.member_id if self.caller else None
        if member_id is None:
            raise MemberNotFound("of this caller: the token has no member id")
        self.set_header(_LOCATION, self.member_address(member_id))
        return member_id
