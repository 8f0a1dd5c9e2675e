"""The headers that the responses of all handlers have, and request ids, which are one of them."""

import re
import secrets
import time
from collections.abc import Callable, Mapping
from itertools import count

from tornado.httputil import HTTPHeaders

from tornado_members.http.cors import cross_origin_headers
from tornado_members.http.responses import SECURITY_HEADERS, http_date
from tornado_members.http1.heads import SharedHeaders
from tornado_members.settings import Cors

_ALLOWED = "Access-Control-Allow-Origin"
_VALID_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


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
    request_id = headers["X-Request-Id"]
    return request_id if _VALID_ID.fullmatch(request_id) else None


class CommonHeaders:
    """Makes the headers that all responses begin with. A handler then adds those of its response.

    All but Date and X-Request-Id are the same for all requests of an origin, so they are prepared.
    """

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._for_no_origin = _prepare(cross_origin_headers(cors, None))
        self._prepared: dict[str, HTTPHeaders] = {}  # by the origin that is allowed

    def make(self, request_headers: HTTPHeaders, request_id: str) -> SharedHeaders:
        """Return the headers of a response to a request, which the caller may change."""
        prepared = self._for_no_origin
        if "Origin" in request_headers:
            prepared = self._prepared_for(request_headers["Origin"])
        headers = SharedHeaders(prepared)
        headers.set_normalized({"Date": http_date(int(time.time())), "X-Request-Id": request_id})
        return headers

    def _prepared_for(self, origin: str) -> HTTPHeaders:
        allowed = cross_origin_headers(self._cors, origin)
        key = allowed.get(_ALLOWED)
        if key is None:
            return self._for_no_origin
        if key not in self._prepared:
            self._prepared[key] = _prepare(allowed)
        return self._prepared[key]


def _prepare(cors: Mapping[str, str]) -> HTTPHeaders:
    return HTTPHeaders(
        {
            "Content-Type": "text/html; charset=UTF-8",  # Tornado's default
            "Date": "",
            "X-Request-Id": "",
            **SECURITY_HEADERS,
            **cors,
        }
    )
