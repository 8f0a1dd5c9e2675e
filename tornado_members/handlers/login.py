"""Login, and the keys that verify what it issues."""

import json
import time
from collections.abc import Mapping
from typing import Any

from tornado_members.auth.keys import KeySource
from tornado_members.auth.login import Login
from tornado_members.errors import Fault, InvalidCredentialsBody
from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.operations import LOG_IN, PUBLIC_KEYS
from tornado_members.model.strict_json import json_pointer
from tornado_members.openapi.operation import JSON
from tornado_members.services import Services

_FIELDS = ("username", "password")


class LoginHandler(BaseHandler):
    """/login"""

    route = "/login"
    operations = {"POST": LOG_IN}

    def initialize(self, services: Services, *, login: Login) -> None:  # type: ignore[override]
        super().initialize(services)
        self.login = login

    async def post(self) -> None:
        """A token for a username and a password."""
        username, password = _credentials(self.json_body())
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
        """The public keys with which this service signs (RFC 7517 §5)."""
        self.set_header("Content-Type", JSON)
        self.set_header("Cache-Control", "public, max-age=60")
        self.finish(json.dumps({"keys": self.keys.keys().public(time.time())}))

    head = get


def _credentials(body: Mapping[str, Any]) -> tuple[str, str]:
    """Raises InvalidCredentialsBody with every fault of the body."""
    unknown = [field for field in body if field not in _FIELDS]
    shown = unknown[: InvalidCredentialsBody.most_faults]
    faults = [Fault(json_pointer(field), "is not a field of a login") for field in shown]
    for field in _FIELDS:
        if field not in body:
            faults.append(Fault(f"/{field}", "is missing"))
        elif not isinstance(body[field], str) or not _is_text(body[field]):
            faults.append(Fault(f"/{field}", "must be a string"))
    if faults:
        raise InvalidCredentialsBody(faults, unlisted=len(unknown) - len(shown))
    return body["username"], body["password"]


def _is_text(text: str) -> bool:
    """Whether there is no half of a character in it, which JSON can write as an escape."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
