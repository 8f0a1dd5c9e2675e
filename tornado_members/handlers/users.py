"""The users of the login: a resource for administrators."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from tornado_members.auth.permissions import DELETE
from tornado_members.auth.user_accounts import UserAccounts, parse_patch, parse_user, to_dict
from tornado_members.errors import (
    DependencyUnavailable,
    InvalidUser,
    UsernameTaken,
    UserNotFound,
)
from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.member import MERGE_PATCH
from tornado_members.handlers.parameters import Arguments, number_of, text_of
from tornado_members.http.request_body import json_object
from tornado_members.openapi.operation import JSON, Body, Operation, Parameter, Response
from tornado_members.openapi.schemas import reference
from tornado_members.services import Services

_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 100
_EXAMPLE: Final = {"username": "ada", "accessRights": 2, "memberId": 42}
_DRAFT: Final = {**_EXAMPLE, "password": "correct horse"}
_HEADERS: Final = ("Cache-Control",)
_USER: Final = Response("The user", {JSON: reference("User")}, {JSON: _EXAMPLE}, headers=_HEADERS)

LIST_USERS: Final = Operation(
    name="listUsers",
    summary="List the users of the login, by name",
    tag="users",
    permission=DELETE,
    query={
        "limit": Parameter(
            "Maximum number of users per page.",
            {
                "type": "integer",
                "minimum": 1,
                "maximum": _MAX_LIMIT,
                "default": _DEFAULT_LIMIT,
            },
        ),
        "after": Parameter(
            "The name of the last user on the previous page, as in its `next`.",
            {"type": "string"},
        ),
    },
    responses={
        200: Response(
            "A page of users",
            {JSON: reference("UserPage")},
            {JSON: {"items": [_EXAMPLE], "next": None}},
            headers=_HEADERS,
        )
    },
    problems=(DependencyUnavailable,),
)
ADD_USER: Final = Operation(
    name="addUser",
    summary="Add a user of the login",
    tag="users",
    permission=DELETE,
    body=Body({JSON: reference("UserDraft")}, {JSON: _DRAFT}),
    responses={
        201: Response(
            "The new user",
            {JSON: reference("User")},
            {JSON: _EXAMPLE},
            ("Location.user", *_HEADERS),
        )
    },
    problems=(InvalidUser, UsernameTaken, DependencyUnavailable),
)
FIND_USER: Final = Operation(
    name="findUser",
    summary="Read a user of the login",
    tag="users",
    permission=DELETE,
    responses={200: _USER},
    problems=(UserNotFound, DependencyUnavailable),
)
PATCH_USER: Final = Operation(
    name="patchUser",
    summary="Set the rights, the password or the own member of a user",
    tag="users",
    permission=DELETE,
    body=Body({MERGE_PATCH: reference("UserPatch")}, {MERGE_PATCH: {"accessRights": 1}}),
    responses={200: _USER},
    problems=(UserNotFound, InvalidUser, DependencyUnavailable),
    description="Fewer rights, another password and another member end the tokens of the user "
    "within a second.",
)
REMOVE_USER: Final = Operation(
    name="removeUser",
    summary="Remove a user of the login",
    tag="users",
    permission=DELETE,
    responses={204: Response("The user is removed, and its tokens end within a second")},
    problems=(UserNotFound, DependencyUnavailable),
)


class UserResourceHandler(BaseHandler):
    """Base of the handlers of users."""

    def initialize(self, services: Services, *, accounts: UserAccounts) -> None:  # type: ignore[override]
        super().initialize(services)
        self.accounts = accounts

    def json_body(self) -> dict[str, Any]:
        """Return the JSON object in the body. Raises UnsupportedMediaType, MalformedBody."""
        return json_object(self.request, self.operation)

    def send(self, body: Mapping[str, Any], status: int = 200) -> None:
        """Send a body about users, which no cache may store."""
        self.set_status(status)
        self.set_header("Content-Type", JSON)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(body, ensure_ascii=False, separators=(",", ":")))


class UsersHandler(UserResourceHandler):
    """/users"""

    route = "/users"
    operations = {"GET": LIST_USERS, "HEAD": LIST_USERS, "POST": ADD_USER}

    async def get(self) -> None:
        """Send a page of users."""
        after, limit = _parse_query(self.request.query_arguments)
        found = await self.accounts.page(after=after, limit=limit + 1)
        page = found[:limit]
        following = None
        if len(found) > limit:
            query = urlencode({"limit": limit, "after": page[-1].username})
            following = self.address(f"/users?{query}")
        self.send({"items": [to_dict(user) for user in page], "next": following})

    head = get

    async def post(self) -> None:
        """Add a user."""
        user = await self.accounts.add(parse_user(self.json_body()))
        self.set_header("Location", self.address(f"/users/{quote(user.username, safe='')}"))
        self.send(to_dict(user), 201)


class UserHandler(UserResourceHandler):
    """/users/{username}"""

    route = "/users/{username}"
    operations = {
        "GET": FIND_USER,
        "HEAD": FIND_USER,
        "PATCH": PATCH_USER,
        "DELETE": REMOVE_USER,
    }

    async def get(self, username: str) -> None:
        """Send a user."""
        self.send(to_dict(await self.accounts.find(username)))

    head = get

    async def patch(self, username: str) -> None:
        """Apply a JSON merge patch (RFC 7396)."""
        self.send(to_dict(await self.accounts.change(username, parse_patch(self.json_body()))))

    async def delete(self, username: str) -> None:
        """Remove a user."""
        await self.accounts.remove(username)
        self.set_status(204)


def _parse_query(arguments: Arguments) -> tuple[str, int]:
    """Return the name after which the page begins, and its limit. Raises BadParameter."""
    limit = number_of(arguments, "limit", _MAX_LIMIT) or _DEFAULT_LIMIT
    return text_of(arguments, "after") or "", limit
