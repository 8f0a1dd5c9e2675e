"""The login, and the public keys that verify its tokens."""

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from tornado_members.auth.keys import KeySource
from tornado_members.auth.login import Login
from tornado_members.errors import (
    DependencyUnavailable,
    Fault,
    InvalidCredentialsBody,
    LoginFailed,
    TooManyAttempts,
    UserBlocked,
)
from tornado_members.handlers.base import BaseHandler
from tornado_members.http.request_body import json_object
from tornado_members.model.strict_json import has_lone_surrogate, json_pointer
from tornado_members.openapi.operation import JSON, Body, Operation, Response
from tornado_members.openapi.schemas import reference
from tornado_members.services import Services

_FIELDS = ("username", "password")

LOG_IN: Final = Operation(
    name="logIn",
    summary="Get a token for a username and a password",
    tag="login",
    body=Body(
        {JSON: reference("Credentials")},
        {JSON: {"username": "ada", "password": "correct horse"}},
    ),
    responses={
        200: Response(
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
    summary="Read the public keys of this service (RFC 7517)",
    tag="login",
    responses={
        200: Response(
            "The key set",
            {JSON: reference("KeySet")},
            {JSON: {"keys": [{"kty": "RSA", "kid": "1", "alg": "RS256", "n": "...", "e": "AQAB"}]}},
            headers=("Cache-Control",),
        )
    },
    problems=(DependencyUnavailable,),
)


class LoginHandler(BaseHandler):
    """/login"""

    route = "/login"
    operations = {"POST": LOG_IN}

    def initialize(self, services: Services, *, login: Login) -> None:  # type: ignore[override]
        super().initialize(services)
        self.login = login

    async def post(self) -> None:
        """Issue a token for a username and a password."""
        username, password = _credentials(json_object(self.request, self.operation))
        token = await self.login.log_in(username, password, self.caller_address())
        body = {"access_token": token.text, "token_type": "Bearer", "expires_in": token.seconds}
        self.set_header("Content-Type", JSON)
        self.set_header("Cache-Control", "no-store")  # RFC 6749 §5.1
        self.finish(json.dumps(body))


class JwksHandler(BaseHandler):
    """/.well-known/jwks.json"""

    route = "/.well-known/jwks.json"
    operations = {"GET": PUBLIC_KEYS, "HEAD": PUBLIC_KEYS}

    def initialize(self, services: Services, *, keys: KeySource) -> None:  # type: ignore[override]
        super().initialize(services)
        self.keys = keys

    async def get(self) -> None:
        """Send the public keys (RFC 7517 §5)."""
        self.set_header("Content-Type", JSON)
        self.set_header("Cache-Control", "public, max-age=60")
        self.finish(json.dumps({"keys": self.keys.keys().public(time.time())}))

    head = get


def _credentials(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return the username and the password. Raises InvalidCredentialsBody with every fault."""
    unknown = [field for field in body if field not in _FIELDS]
    shown = unknown[: InvalidCredentialsBody.most_faults]
    faults = [Fault(json_pointer(field), "is not a field of the credentials") for field in shown]
    for field in _FIELDS:
        if field not in body:
            faults.append(Fault(f"/{field}", "is missing"))
        elif not isinstance(body[field], str) or has_lone_surrogate(body[field]):
            faults.append(Fault(f"/{field}", "must be a string"))
    if faults:
        raise InvalidCredentialsBody(faults, unlisted=len(unknown) - len(shown))
    return body["username"], body["password"]
