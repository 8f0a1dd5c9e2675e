"""The caller's own member, addressed as /members/me."""

from dataclasses import replace
from typing import Final

from tornado_members.errors import MemberNotFound
from tornado_members.handlers.declarations import NOT_MODIFIED, WRITTEN, member_answer
from tornado_members.handlers.member import (
    FIND_MEMBER,
    PATCH_MEMBER,
    REPLACE_MEMBER,
    OneMemberHandler,
)
from tornado_members.http.own_record import addresses_itself
from tornado_members.openapi.operation import Answer

_LOCATION: Final = "Content-Location"
_DESCRIPTION: Final = (
    "The member whose id the token names, by the claim `member_claim` of its issuer. 404 if it "
    "names none."
)

FIND_OWN_MEMBER: Final = replace(
    FIND_MEMBER,
    name="findOwnMember",
    summary="Read the caller's own member",
    is_own=addresses_itself,
    answers={
        200: member_answer("The member", _LOCATION, may_have=("Cache-Status",)),
        304: Answer(
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
    is_own=addresses_itself,
    answers={200: member_answer("The replaced member", _LOCATION), 204: WRITTEN},
    description=_DESCRIPTION,
)
PATCH_OWN_MEMBER: Final = replace(
    PATCH_MEMBER,
    name="patchOwnMember",
    summary="Change some fields of the caller's own member (JSON merge patch)",
    is_own=addresses_itself,
    answers={200: member_answer("The changed member", _LOCATION), 204: WRITTEN},
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

    def addressed_member(self, *path: str) -> int:  # noqa: ARG002
        """Return the id that the token names, and send it as Content-Location (RFC 9110 §8.7)."""
        member_id = self.caller.member_id if self.caller else None
        if member_id is None:
            raise MemberNotFound("of this caller: the token names none")
        self.set_header(_LOCATION, self.member_address(member_id))
        return member_id
