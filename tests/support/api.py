"""A client of the service under test."""

import json
import time
from functools import cache
from typing import Any, Protocol

from tornado.httpclient import HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from tests.support.contract import Contract
from tests.support.tokens import make_token

PROBLEM = "application/problem+json"


class Fetching(Protocol):
    """The client of pytest-tornasync: it fetches a path of the application under test."""

    async def fetch(self, path: str, **kwargs: Any) -> HTTPResponse:
        """Send one request."""


class PathClient(SimpleAsyncHTTPClient):
    """Tornado's client, for the paths of one server."""

    base: str

    async def fetch(self, path: str, **kwargs: Any) -> HTTPResponse:  # type: ignore[override]
        return await super().fetch(self.base + path, **kwargs)


class Api:
    """Sends requests with a token of the given rights, and raises no error for any status.

    Each response must match /openapi.json.
    """

    def __init__(self, client: Fetching, contract: Contract) -> None:
        self._client = client
        self._contract = contract

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        rights: int | None = 3,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> HTTPResponse:
        """Send `body` as JSON, or `raw` unchanged; with `rights` None, send no token."""
        sent = dict(headers or {})
        if rights is not None:
            sent.setdefault("Authorization", f"Bearer {token_of(rights)}")
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        response = await self._client.fetch(
            path,
            method=method,
            body=raw,
            headers=sent,
            raise_error=False,
            allow_nonstandard_methods=True,
            **options,
        )
        if response.code != 599:  # Tornado's own status for a missing response
            self._contract.check(method, path.partition("?")[0], response)
        return response

    async def create(self, name: str, **fields: Any) -> dict[str, Any]:
        """Add a member and return it."""
        response = await self("PUT", "/members", {"name": name, **fields})
        assert response.code == 201, response.body
        return dict(parsed(response))


@cache
def token_of(rights: int) -> str:
    """Return one token per run: signing takes longer than most tests."""
    return make_token(access_rights=rights, exp=int(time.time()) + 6 * 3600)


def parsed(response: HTTPResponse) -> Any:
    """Return the JSON of a body."""
    return json.loads(response.body)


def problem(response: HTTPResponse, status: int, code: str) -> dict[str, Any]:
    """Return the problem in a body, after a check that it is complete (RFC 9457)."""
    assert response.code == status, response.body
    assert response.headers["Content-Type"] == PROBLEM
    found = parsed(response)
    assert found["status"] == status
    assert found["code"] == code
    assert found["type"] == f"urn:tornado-members:problem:{code}"
    assert found["title"]
    assert found["detail"]
    assert found["requestId"] == response.headers["X-Request-Id"]
    return dict(found)
