"""Request ids: taken from X-Request-Id, or generated."""

import re
import secrets
from collections.abc import Callable
from itertools import count

from tornado.httputil import HTTPHeaders

_VALID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestIds:
    """Generates ids that are unique among all processes: a random prefix and a number."""

    def __init__(self) -> None:
        form = f"{secrets.token_hex(8)}%016x"
        # Returns a new id. Each request calls it, so it runs without Python code.
        self.new: Callable[[], str] = map(form.__mod__, count(1)).__next__

    def of(self, headers: HTTPHeaders) -> str:
        """Return the X-Request-Id of a request if it is valid, else a new id."""
        return valid_request_id(headers) or self.new()


def valid_request_id(headers: HTTPHeaders) -> str | None:
    """Return the X-Request-Id of a request if it is valid."""
    if "X-Request-Id" not in headers:
        return None
    given = headers["X-Request-Id"]
    return given if _VALID.fullmatch(given) else None
