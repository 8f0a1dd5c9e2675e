"""The headers that the responses of all handlers have."""

import time
from collections.abc import Mapping

from tornado.httputil import HTTPHeaders

from tornado_members.http.cors import cross_origin_headers
from tornado_members.http.responses import SECURITY_HEADERS, http_date
from tornado_members.http1.headers import SharedHeaders
from tornado_members.settings import Cors

_ALLOWED = "Access-Control-Allow-Origin"


class CommonHeaders:
    """Makes the headers of a response, of which a handler then sets further ones.

    All but two of them are the same for all requests of an origin, so they are prepared.
    """

    def __init__(self, cors: Cors) -> None:
        self._cors = cors
        self._prepared: dict[str | None, HTTPHeaders] = {}  # by the origin that is allowed

    def make(self, request_headers: HTTPHeaders, request_id: str) -> HTTPHeaders:
        """Return the headers of a response to a request, which the caller may change."""
        allowed = cross_origin_headers(self._cors, request_headers.get("Origin"))
        prepared = self._prepared.get(allowed.get(_ALLOWED))
        if prepared is None:
            prepared = self._prepared[allowed.get(_ALLOWED)] = _prepare(allowed)
        headers = SharedHeaders(prepared)
        headers["Date"] = http_date(int(time.time()))
        headers["X-Request-Id"] = request_id
        return headers


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
