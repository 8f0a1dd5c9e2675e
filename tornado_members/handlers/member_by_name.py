"""One member, addressed by its name."""

from dataclasses import replace
from typing import Final

from tornado_members.auth.permissions import READ, WRITE
from tornado_members.errors import (
    AmbiguousAddress,
    BadParameter,
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
    WRITE_PREFERENCE,
    WRITTEN,
    describe_member,
)
from tornado_members.handlers.member import FIND_MEMBER
from tornado_members.handlers.member_resource import MemberResourceHandler
from tornado_members.handlers.parameters import text_of
from tornado_members.http.cache_control import has_no_cache
from tornado_members.http.own_record import is_checked_by_handler
from tornado_members.member_entries import Representation
from tornado_members.model.member import MEMBER_FIELDS, parse_draft
from tornado_members.model.names import STORED_NAME_PATTERN, is_ambiguous_in_paths
from tornado_members.model.strict_json import integer_of
from tornado_members.openapi.examples import example_details
from tornado_members.openapi.operation import JSON, Body, Operation, Parameter, Response
from tornado_members.openapi.schemas import reference

_QUERY: Final = {
    "name": Parameter(
        "The name of the member. It is compared in Unicode NFC, without surrounding white space.",
        {"type": "string", "pattern": STORED_NAME_PATTERN},
        MEMBER_FIELDS["name"].example,
        is_required=True,
    )
}
_IN_PATH: Final = (
    "A shorter form of `/members/by-name?name=`, for names that proxies do not change in a path."
)

FIND_BY_NAME: Final = Operation(
    name="findMemberByName",
    summary="Read a member by its name",
    tag="members",
    permission=READ,
    is_own=is_checked_by_handler,
    query=_QUERY,
    headers=FIND_MEMBER.headers,
    responses={
        200: describe_member("The member", "Content-Location", may_have=("Cache-Status",)),
        304: Response(
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
    query=_QUERY,
    headers=(*WRITE_CONDITIONS, *WRITE_PREFERENCE),
    body=Body({JSON: reference("MemberDetails")}, {JSON: example_details}, holds_member=True),
    responses={
        200: describe_member("The replaced member", "Content-Location"),
        201: CREATED,
        204: WRITTEN,
    },
    problems=(
        *(InvalidMember, NameTaken, PreconditionFailed, PreconditionRequired),
        *(WriteConflict, DependencyUnavailable),
    ),
)
FIND_BY_NAME_IN_PATH: Final = replace(
    FIND_BY_NAME,
    name="findMemberByNameInPath",
    summary="Read a member by its name in the path",
    query={},
    problems=(AmbiguousAddress, *FIND_BY_NAME.problems),
    description=_IN_PATH,
)
PUT_BY_NAME_IN_PATH: Final = replace(
    PUT_BY_NAME,
    name="putMemberByNameInPath",
    summary="Create or replace the member with this name in the path",
    query={},
    problems=(AmbiguousAddress, *PUT_BY_NAME.problems),
    description=_IN_PATH,
)


class MemberByNameHandler(MemberResourceHandler):
    """/members/by-name?name="""

    route = "/members/by-name"
    operations = {"GET": FIND_BY_NAME, "HEAD": FIND_BY_NAME, "PUT": PUT_BY_NAME}

    def addressed_name(self, *path: str) -> str:  # noqa: ARG002  # for subclasses
        """Return the name in the query. Raises BadParameter."""
        name = text_of(self.request.query_arguments, "name")
        if not name:
            raise BadParameter("name", "is missing; send the name of a member")
        return name

    async def get(self, *path: str) -> None:
        """Send the member with this name."""
        name = self.addressed_name(*path)
        directory, headers = self.services.directory, self.request.headers
        no_cache = "Cache-Control" in headers and has_no_cache(headers["Cache-Control"])
        if self.own_member_id is not None:
            self.send_named(await self.get_own(self.own_member_id, name, no_cache=no_cache))
        else:
            self.send_named(await directory.get_by_name(name, no_cache=no_cache))

    head = get

    async def put(self, *path: str) -> None:
        """Create the member with this name, or replace its fields."""
        name = self.addressed_name(*path)
        if self.own_member_id is not None:
            await self.get_own(self.own_member_id, name)
        body = self.json_body()
        # Another member may take the name now: it must not be replaced if the body has an id.
        own_id = self.own_member_id
        draft = parse_draft(body, member_id=own_id, name=name, fields=self.services.fields)
        expected_id = integer_of(body.get("memberId", own_id))
        member, is_new = await self.services.directory.put_by_name(
            draft, expected_id, self.precondition(), by=self.actor()
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


class MemberByNameInPathHandler(MemberByNameHandler):
    """/members/by-name/{name}"""

    route = "/members/by-name/{name}"
    operations = {
        "GET": FIND_BY_NAME_IN_PATH,
        "HEAD": FIND_BY_NAME_IN_PATH,
        "PUT": PUT_BY_NAME_IN_PATH,
    }

    def addressed_name(self, *path: str) -> str:
        """Return the name in the path. Raises AmbiguousAddress."""
        (name,) = path
        if is_ambiguous_in_paths(name):
            raise AmbiguousAddress
        return name
