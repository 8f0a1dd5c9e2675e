"""One member, addressed by its id."""

import re
from dataclasses import replace
from functools import partial
from typing import Final

from tornado_members.auth.permissions import DELETE, READ, WRITE
from tornado_members.errors import (
    DependencyUnavailable,
    InvalidMember,
    MemberNotFound,
    NameTaken,
    PreconditionFailed,
    PreconditionRequired,
    WriteConflict,
)
from tornado_members.handlers.declarations import (
    MEMBER_DRAFT,
    NOT_MODIFIED,
    READ_CONDITIONS,
    WRITE_CONDITIONS,
    WRITE_PREFERENCE,
    WRITTEN,
    describe_member,
)
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.http.cache_control import has_no_cache
from tornado_members.http.own_record import path_has_own_id
from tornado_members.model.member import MAX_MEMBER_ID, apply_merge_patch, parse_draft
from tornado_members.openapi.operation import Body, Operation, Response
from tornado_members.openapi.schemas import reference

MEMBER_ID: Final = re.compile(r"[1-9][0-9]{0,15}")
MERGE_PATCH: Final = "application/merge-patch+json"

FIND_MEMBER: Final = Operation(
    name="findMember",
    summary="Read a member",
    tag="members",
    permission=READ,
    is_own=path_has_own_id,
    headers=("Cache-Control", *READ_CONDITIONS),
    responses={
        200: describe_member("The member", may_have=("Cache-Status",)),
        304: NOT_MODIFIED,
    },
    problems=(MemberNotFound, PreconditionFailed, DependencyUnavailable),
)
REPLACE_MEMBER: Final = Operation(
    name="replaceMember",
    summary="Replace a member",
    tag="members",
    permission=WRITE,
    is_own=path_has_own_id,
    headers=(*WRITE_CONDITIONS, *WRITE_PREFERENCE),
    body=replace(
        MEMBER_DRAFT,
        description="Omitted fields become null. `memberId`, if sent, must equal that in the path.",
    ),
    responses={200: describe_member("The replaced member"), 204: WRITTEN},
    problems=(
        *(MemberNotFound, InvalidMember, NameTaken, PreconditionFailed, PreconditionRequired),
        *(WriteConflict, DependencyUnavailable),
    ),
)
PATCH_MEMBER: Final = Operation(
    name="patchMember",
    summary="Change some fields of a member (JSON merge patch)",
    tag="members",
    permission=WRITE,
    is_own=path_has_own_id,
    headers=(*WRITE_CONDITIONS, *WRITE_PREFERENCE),
    body=Body(
        {MERGE_PATCH: reference("MemberPatch")},
        {MERGE_PATCH: {"phone": None, "name": "Ada King"}},
        holds_member=True,
    ),
    responses={200: describe_member("The changed member"), 204: WRITTEN},
    problems=REPLACE_MEMBER.problems,
)
DELETE_MEMBER: Final = Operation(
    name="deleteMember",
    summary="Delete a member",
    tag="members",
    permission=DELETE,
    headers=WRITE_CONDITIONS,
    responses={204: Response("The member is deleted; its id is never used again")},
    problems=(
        MemberNotFound,
        PreconditionFailed,
        PreconditionRequired,
        WriteConflict,
        DependencyUnavailable,
    ),
)


class OneMemberHandler(MemberResourceHandler):
    """The methods of a resource that is one member."""

    def addressed_member(self, *path: str) -> int:
        """Return the id in the path. Raises MemberNotFound."""
        return parse_member_id(*path)

    async def get(self, *path: str) -> None:
        """Send the member."""
        member_id, headers = self.addressed_member(*path), self.request.headers
        no_cache = "Cache-Control" in headers and has_no_cache(headers["Cache-Control"])
        self.send_member(await self.services.directory.get(member_id, no_cache=no_cache))

    head = get

    async def put(self, *path: str) -> None:
        """Replace every field of the member."""
        member_id = self.addressed_member(*path)
        draft = parse_draft(self.json_body(), member_id=member_id, fields=self.services.fields)
        condition, by = self.precondition(), self.actor()
        self.send_member(await self.services.directory.replace(member_id, draft, condition, by=by))

    async def patch(self, *path: str) -> None:
        """Apply a JSON merge patch (RFC 7396)."""
        member_id = self.addressed_member(*path)
        change = partial(
            apply_merge_patch, merge_patch=self.json_body(), fields=self.services.fields
        )
        condition, by = self.precondition(), self.actor()
        self.send_member(await self.services.directory.patch(member_id, change, condition, by=by))


class MemberHandler(OneMemberHandler):
    """/members/{memberId}"""

    route = "/members/{memberId}"
    operations = {
        "GET": FIND_MEMBER,
        "HEAD": FIND_MEMBER,
        "PUT": REPLACE_MEMBER,
        "PATCH": PATCH_MEMBER,
        "DELETE": DELETE_MEMBER,
    }

    async def delete(self, *path: str) -> None:
        """Delete the member."""
        member_id, condition = self.addressed_member(*path), self.precondition()
        await self.services.directory.delete(member_id, condition, by=self.actor())
        self.set_status(204)


def parse_member_id(text: str) -> int:
    """Parse the id in a path. Raises MemberNotFound for an id that no member can have."""
    if not MEMBER_ID.fullmatch(text) or (member_id := int(text)) > MAX_MEMBER_ID:
        raise MemberNotFound(f"with this id: ids are whole numbers from 1 to {MAX_MEMBER_ID}")
    return member_id
