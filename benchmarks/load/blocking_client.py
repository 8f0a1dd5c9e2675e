"""A blocking HTTP client for the checks beside the load."""

import json
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Response:
    """A response."""

    status: int
    headers: dict[str, str]  # by name in lower case
    content: bytes

    @property
    def json(self) -> Any:
        """The parsed body; None if it is not JSON."""
        with suppress(ValueError):
            return json.loads(self.content)
        return None


class BlockingClient:
    """Sends requests on one connection, and opens it again if the server has closed it."""

    def __init__(self, port: int, token: str | None) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **headers: str) -> Response:
        """Send a GET request. The names of `headers` have underscores instead of hyphens."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return self._request("GET", path, None, named)

    def put(self, path: str, body: dict[str, Any]) -> Response:
        """Send a PUT request with JSON."""
        return self._request("PUT", path, json.dumps(body), {"Content-Type": "application/json"})

    def post(self, path: str, body: dict[str, Any]) -> Response:
        """Send a POST request with JSON."""
        return self._request("POST", path, json.dumps(body), {"Content-Type": "application/json"})

    def _request(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> Response:
        for is_last in (False, True):
            try:
                self._connection.request(method, path, body, {**self._headers, **headers})
                response = self._connection.getresponse()
                content = response.read()
            except (OSError, HTTPException):
                self._connection.close()  # the server may have closed it meanwhile
                if is_last:
                    raise
            else:
                found = {name.lower(): text for name, text in response.getheaders()}
                return Response(response.status, found, content)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
