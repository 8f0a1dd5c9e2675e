"""One member, addressed by its name."""

from typing import Final

from tornado_members.auth.permissions import READ, WRITE
from tornado_members.errors import (
    DependencyUnavailable,
    InvalidMember,
    NameTaken,
    PreconditionFailed,
    PreconditionRequired,
    WriteConflict,
)
from tornado_members.handlers.declarations import (
    CREATED,
    NOT_MODIFIED,
    WRITE_CONDITIONS,
    member_answer,
)
from tornado_members.handlers.member import FIND_MEMBER
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.http.own_record import is_checked_by_handler
from tornado_members.member_entries import Representation
from tornado_members.model.member import parse_draft
from tornado_members.openapi.examples import example_details
from tornado_members.openapi.operation import JSON, Answer, Body, Operation
from tornado_members.openapi.schemas import reference

FIND_BY_NAME: Final = Operation(
    name="findMemberByName",
    summary="Read a member by its name",
    tag="members",
    permission=READ,
    is_own=is_checked_by_handler,
    headers=FIND_MEMBER.headers,
    answers={
        200: member_answer("The member", "Content-Location", may_have=("Cache-Status",)),
        304: Answer(
            NOT_MODIFIED.description,
            headers=(*NOT_MODIFIED.headers, "Content-Location"),
            may_have=NOT_MODIFIED.may_have,
        ),
    },
    problems=FIND_MEMBER.problems,
)
PUT_BY_NAME: Final = Operation(
    name="putMemberByName",
    summary="Create or replace the member with this name",
    tag="members",
    permission=WRITE,
    is_own=is_checked_by_handler,
    headers=WRITE_CONDITIONS,
    body=Body({JSON: reference("MemberDetails")}, {JSON: example_details}, holds_member=True),
    answers={200: member_answer("The replaced member", "Content-Location"), 201: CREATED},
    problems=(
        *(InvalidMember, NameTaken, PreconditionFailed, PreconditionRequired),
        *(WriteConflict, DependencyUnavailable),
    ),
)


class MemberByNameHandler(MemberResourceHandler):
    """/members/by-name/{name}"""

    route = "/members/by-name/{name}"
    operations = {"GET": FIND_BY_NAME, "HEAD": FIND_BY_NAME, "PUT": PUT_BY_NAME}

    async def get(self, name: str) -> None:
        """Send the member with this name."""
        directory, no_cache = self.services.directory, self.wants_no_cache()
        if self.own_member_id is not None:
            self.send_named(await self.get_own(self.own_member_id, name, no_cache=no_cache))
        else:
            self.send_named(await directory.get_by_name(name, no_cache=no_cache))

    head = get

    async def put(self, name: str) -> None:
        """Create the member with this name, or replace its fields."""
        if self.own_member_id is not None:
            await self.get_own(self.own_member_id, name)
        body = self.json_body()
        # Another member may take the name now, and must not be the one that the body means.
        own_id = self.own_member_id
        draft = parse_draft(body, member_id=own_id, name=name, fields=self.services.fields)
        meant = body.get("memberId", own_id)
        member, is_new = await self.services.directory.put_by_name(
            draft, meant, self.precondition(), by=self.actor()
        )
        if is_new:
            self.send_created(member)
        else:
            self.send_named(member)

    async def get_own(self, member_id: int, name: str, *, no_cache: bool = False) -> Representation:
        """Return the caller's own member if it has this name.

        Raises PermissionMissing for any other name, whether or not a member has it.
        """
        member = await self.services.directory.get_if_named(member_id, name, no_cache=no_cache)
        if member is None:
            raise self.permission_missing()
        return member

    def send_named(self, member: Representation) -> None:
        """Send a member with its address by id."""
        self.send_member(member, is_located=True)
