"""What each request takes and gives: the handlers serve by it, /openapi.json tells of it."""

import json
from typing import Final

from tornado_members.auth.permissions import DELETE, READ, WRITE
from tornado_members.errors import (
    DependencyUnavailable,
    InvalidCredentialsBody,
    InvalidMember,
    LoginFailed,
    MemberNotFound,
    NameTaken,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    TooManyAttempts,
    UnreadableFile,
    UserBlocked,
    WriteConflict,
)
from tornado_members.handlers.history_query import HISTORY_PARAMETERS
from tornado_members.handlers.paging import LIST_PARAMETERS
from tornado_members.openapi.operation import (
    CSV,
    JSON,
    NDJSON,
    Answer,
    Body,
    Link,
    Operation,
    Parameter,
)
from tornado_members.openapi.schemas import (
    ADA,
    CHANGE_OF_ADA,
    DETAILS_OF_ADA,
    DRAFT_OF_ADA,
    reference,
)

MERGE_PATCH: Final = "application/merge-patch+json"

_READ_CONDITIONS = ("If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since")
_WRITE_CONDITIONS = ("If-Match", "If-None-Match.write", "If-Unmodified-Since")
_BY_ID = {"memberId": "$response.body#/memberId"}
_GO_ON = {
    name: Link(name, _BY_ID, description)
    for name, description in (
        ("findMember", "Read it again."),
        ("replaceMember", "Replace it."),
        ("patchMember", "Change a part of it."),
        ("deleteMember", "Remove it."),
    )
} | {
    "findMemberByName": Link(
        "findMemberByName", {"name": "$response.body#/name"}, "Find it by its name."
    )
}
_MEMBER = {JSON: reference("Member")}
_EXAMPLE = {JSON: ADA}
_OF_MEMBERS = ("Cache-Control", "Vary")


def _member(description: str, *headers: str, may_have: tuple[str, ...] = ()) -> Answer:
    always = ("ETag", *_OF_MEMBERS, *headers)
    return Answer(description, _MEMBER, _EXAMPLE, always, ("Last-Modified", *may_have), _GO_ON)


_CREATED = _member("The new member", "Location")
_NOT_MODIFIED = Answer(
    "It still is in the version that you have",
    headers=("ETag", *_OF_MEMBERS),
    may_have=("Last-Modified", "Cache-Status"),
)
_FILE = {"type": "string"}
_CSV_FILE = {
    "description": "The first line names the columns. `scripts/seed` and this take other headings "
    "and delimiters, too.",
    "type": "string",
    "pattern": r"^(?:memberId,)?name(?:,email)?(?:,phone)?\r?\n",
}
_CSV_OF_ADA = "memberId,name,email,phone\r\n42,Ada Lovelace,ada@example.org,'+44 20 7946 0018\r\n"
_LINE_OF_ADA = json.dumps(ADA) + "\n"
_DRAFT = Body({JSON: reference("MemberDraft")}, {JSON: DRAFT_OF_ADA})

LIST_MEMBERS: Final = Operation(
    name="listMembers",
    tag="members",
    permission=READ,
    query=LIST_PARAMETERS,
    headers=("Prefer",),
    answers={
        200: Answer(
            "A page; as text/csv or application/x-ndjson, a stream of all that match, for which "
            "there is no `next`, and `limit` counts only where it is given",
            {JSON: reference("MemberPage"), CSV: _FILE, NDJSON: _FILE},
            {JSON: {"items": [ADA], "next": None}, CSV: _CSV_OF_ADA, NDJSON: _LINE_OF_ADA},
            headers=_OF_MEMBERS,
            may_have=(
                *("Link", "X-Total-Count", "Preference-Applied"),
                *("Content-Encoding", "Content-Disposition"),
            ),
            links={
                "first": Link(
                    "findMember",
                    {"memberId": "$response.body#/items/0/memberId"},
                    "Read the first one.",
                )
            },
        )
    },
    problems=(DependencyUnavailable,),
)
IMPORT_MEMBERS: Final = Operation(
    name="importMembers",
    tag="members",
    permission=WRITE,
    query={
        "on_conflict": Parameter(
            "What to do with a name that another member has: `reject` it, `skip` it, or `replace` "
            "what that member is.",
            {"type": "string", "enum": ["reject", "skip", "replace"], "default": "reject"},
            "skip",
        ),
        "dry_run": Parameter(
            "Tell what would become of each, and write nothing.",
            {"type": "boolean", "default": False},
            True,
        ),
    },
    body=Body(
        {CSV: _CSV_FILE, NDJSON: _FILE},
        {CSV: _CSV_OF_ADA},
        "Members, one a record (with a header that names the columns) or one object a line. "
        "`memberId`, which exports have, is taken and not used.",
    ),
    answers={
        200: Answer(
            "What became of each, one object a line, in the order of the input, as it goes",
            {NDJSON: _FILE},
            {NDJSON: '{"line": 2, "status": 201, "code": "created", "member": "/members/42"}\n'},
            headers=("Cache-Control",),
            may_have=("X-Ignored-Columns",),
        )
    },
    problems=(UnreadableFile, DependencyUnavailable),
)
ADD_MEMBER: Final = Operation(
    name="addMember",
    tag="members",
    permission=WRITE,
    body=_DRAFT,
    answers={201: _CREATED},
    problems=(InvalidMember, NameTaken, WriteConflict, DependencyUnavailable),
)
FIND_MEMBER: Final = Operation(
    name="findMember",
    tag="members",
    permission=READ,
    headers=("Cache-Control", *_READ_CONDITIONS),
    answers={200: _member("The member", may_have=("Cache-Status",)), 304: _NOT_MODIFIED},
    problems=(MemberNotFound, PreconditionFailed, DependencyUnavailable),
)
REPLACE_MEMBER: Final = Operation(
    name="replaceMember",
    tag="members",
    permission=WRITE,
    headers=_WRITE_CONDITIONS,
    body=Body(
        _DRAFT.content,
        _DRAFT.examples,
        "What is left out becomes null. The memberId of the address may be said again.",
    ),
    answers={200: _member("The member as it is now")},
    problems=(
        *(MemberNotFound, InvalidMember, NameTaken, PreconditionFailed, PreconditionRequired),
        *(WriteConflict, DependencyUnavailable),
    ),
)
PATCH_MEMBER: Final = Operation(
    name="patchMember",
    tag="members",
    permission=WRITE,
    headers=_WRITE_CONDITIONS,
    body=Body(
        {MERGE_PATCH: reference("MemberPatch")},
        {MERGE_PATCH: {"phone": None, "name": "Ada King"}},
    ),
    answers={200: _member("The member as it is now")},
    problems=REPLACE_MEMBER.problems,
)
DELETE_MEMBER: Final = Operation(
    name="deleteMember",
    tag="members",
    permission=DELETE,
    headers=_WRITE_CONDITIONS,
    answers={204: Answer("It is gone, and its id does not come back")},
    problems=(
        MemberNotFound,
        PreconditionFailed,
        PreconditionRequired,
        WriteConflict,
        DependencyUnavailable,
    ),
)
FIND_BY_NAME: Final = Operation(
    name="findMemberByName",
    tag="members",
    permission=READ,
    headers=FIND_MEMBER.headers,
    answers={
        200: _member("The member", "Content-Location", may_have=("Cache-Status",)),
        304: Answer(
            _NOT_MODIFIED.description,
            headers=(*_NOT_MODIFIED.headers, "Content-Location"),
            may_have=_NOT_MODIFIED.may_have,
        ),
    },
    problems=FIND_MEMBER.problems,
)
PUT_BY_NAME: Final = Operation(
    name="putMemberByName",
    tag="members",
    permission=WRITE,
    headers=_WRITE_CONDITIONS,
    body=Body({JSON: reference("MemberDetails")}, {JSON: DETAILS_OF_ADA}),
    answers={200: _member("The member as it is now", "Content-Location"), 201: _CREATED},
    problems=(
        *(InvalidMember, NameTaken, PreconditionFailed, PreconditionRequired),
        *(WriteConflict, DependencyUnavailable),
    ),
)

FIND_HISTORY: Final = Operation(
    name="findHistory",
    tag="members",
    # Who may remove a member for good may see what became of it, and by whom.
    permission=DELETE,
    query=HISTORY_PARAMETERS,
    answers={
        200: Answer(
            "A page of changes, the newest first",
            {JSON: reference("HistoryPage")},
            {JSON: {"items": [CHANGE_OF_ADA], "next": None}},
            headers=_OF_MEMBERS,
            may_have=("Link", "Content-Encoding"),
        )
    },
    problems=(MemberNotFound, DependencyUnavailable),
    description="Also of a member that was deleted, for as long as records are kept.",
)

LOG_IN: Final = Operation(
    name="logIn",
    tag="login",
    body=Body(
        {JSON: reference("Credentials")},
        {JSON: {"username": "ada", "password": "correct horse"}},
    ),
    answers={
        200: Answer(
            "A token",
            {JSON: reference("Token")},
            {JSON: {"access_token": "eyJ...", "token_type": "Bearer", "expires_in": 900}},
            headers=("Cache-Control",),
        )
    },
    problems=(
        InvalidCredentialsBody,
        LoginFailed,
        UserBlocked,
        TooManyAttempts,
        DependencyUnavailable,
    ),
)
PUBLIC_KEYS: Final = Operation(
    name="findKeys",
    tag="login",
    answers={
        200: Answer(
            "The key set",
            {JSON: reference("KeySet")},
            {JSON: {"keys": [{"kty": "RSA", "kid": "1", "alg": "RS256", "n": "...", "e": "AQAB"}]}},
            headers=("Cache-Control",),
        )
    },
    problems=(DependencyUnavailable,),
)

_KEPT = ("ETag", "Cache-Control")
_STILL = Answer("You have it", headers=_KEPT)
_FRESH = ("If-None-Match",)

FIND_DESCRIPTION: Final = Operation(
    name="findDescription",
    tag="description",
    headers=_FRESH,
    answers={
        200: Answer(
            "OpenAPI 3.1",
            {JSON: {"type": "object", "required": ["openapi", "info", "paths"]}},
            headers=(*_KEPT, "Vary"),
            may_have=("Content-Encoding",),
        ),
        304: _STILL,
    },
)
SHOW_PAGE: Final = Operation(
    name="showPage",
    tag="description",
    headers=_FRESH,
    answers={200: Answer("A page", {"text/html": {"type": "string"}}, headers=_KEPT), 304: _STILL},
)
FIND_ASSET: Final = Operation(
    name="findAsset",
    tag="description",
    headers=_FRESH,
    answers={
        200: Answer(
            "The file",
            {name: {"type": "string"} for name in ("text/css", "text/javascript", "image/png")},
            headers=_KEPT,
            may_have=("Vary", "Content-Encoding"),
        ),
        304: _STILL,
    },
    problems=(NotFound,),
)
