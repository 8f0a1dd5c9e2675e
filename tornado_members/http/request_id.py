"""Request ids: taken from X-Request-Id, or generated."""

import itertools
import re
import secrets

from tornado.httputil import HTTPHeaders

_VALID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestIds:
    """Generates ids that are unique among all processes: a random prefix and a number."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def of(self, headers: HTTPHeaders) -> str:
        """Return the X-Request-Id of a request if it is valid, else a new id."""
        return valid_request_id(headers) or self.new()

    def new(self) -> str:
        """Return a new id."""
        return f"{self._prefix}{next(self._numbers):016x}"


def valid_request_id(headers: HTTPHeaders) -> str | None:
    """Return the X-Request-Id of a request if it is valid."""
    if "X-Request-Id" not in headers:
        return None
    given = headers["X-Request-Id"]
    return given if _VALID.fullmatch(given) else None
