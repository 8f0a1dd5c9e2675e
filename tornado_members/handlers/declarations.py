"""The parts that the declarations of several operations on members share."""

from typing import Final

from tornado_members.openapi.examples import example_draft, example_member
from tornado_members.openapi.operation import JSON, Body, Link, Response
from tornado_members.openapi.schemas import reference

READ_CONDITIONS: Final = (
    *("If-None-Match", "If-Modified-Since"),
    *("If-Match", "If-Unmodified-Since"),
)
WRITE_CONDITIONS: Final = ("If-Match", "If-None-Match.write", "If-Unmodified-Since")
WRITE_PREFERENCE: Final = ("Prefer.write",)
# Headers of every response with data of members.
MEMBER_HEADERS: Final = ("Cache-Control", "Vary")
MEMBER_DRAFT: Final = Body(
    {JSON: reference("MemberDraft")}, {JSON: example_draft}, holds_member=True
)
NOT_MODIFIED: Final = Response(
    "The caller has the current version",
    headers=("ETag", *MEMBER_HEADERS),
    may_have=("Last-Modified", "Cache-Status"),
)

_BY_ID = {"memberId": "$response.body#/memberId"}
_LINKS = {
    name: Link(name, _BY_ID, description)
    for name, description in (
        ("findMember", "Read this member."),
        ("replaceMember", "Replace this member."),
        ("patchMember", "Change some fields of this member."),
        ("deleteMember", "Delete this member."),
    )
} | {
    "findMemberByName": Link(
        "findMemberByName", {"name": "$response.body#/name"}, "Read this member by its name."
    )
}


def describe_member(description: str, *headers: str, may_have: tuple[str, ...] = ()) -> Response:
    """Declare a response whose body is one member; `headers` are always present."""
    return Response(
        description,
        {JSON: reference("Member")},
        {JSON: example_member},
        ("ETag", *MEMBER_HEADERS, *headers),
        ("Last-Modified", *may_have),
        _LINKS,
    )


WRITTEN: Final = Response(
    "The write is done, and the caller prefers no body (`Prefer: return=minimal`)",
    headers=("ETag", "Preference-Applied", *MEMBER_HEADERS),
    may_have=("Last-Modified", "Location", "Content-Location"),
)
CREATED: Final = describe_member("The new member", "Location")
