"""One caller, who looks at what is answered."""

import json
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]  # their names in lower case
    content: bytes

    @property
    def json(self) -> Any:
        """The parsed body; None if it is not JSON."""
        with suppress(ValueError):
            return json.loads(self.content)
        return None


class Asker:
    """A connection that is opened again whenever a server closed it."""

    def __init__(self, port: int, token: str | None) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for what is there; a header's name is written with underscores."""
        return self._ask("GET", path, None, headers)

    def put(self, path: str, body: dict[str, Any]) -> Answer:
        """Send JSON."""
        return self._ask("PUT", path, json.dumps(body), {"Content-Type": "application/json"})

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        """Send JSON."""
        return self._ask("POST", path, json.dumps(body), {"Content-Type": "application/json"})

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Answer:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        for is_last in (False, True):
            try:
                self._connection.request(method, path, body, {**self._headers, **named})
                response = self._connection.getresponse()
                content = response.read()
            except (OSError, HTTPException):
                self._connection.close()  # the server may have closed it meanwhile
                if is_last:
                    raise
            else:
                found = {name.lower(): text for name, text in response.getheaders()}
                return Answer(response.status, found, content)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
