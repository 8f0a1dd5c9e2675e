"""The headers of a plain read: one that the cache alone can answer."""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from tornado.httputil import HTTPConnection, HTTPHeaders

from tornado_members.auth.tokens import TokenVerifier, VerifiedToken
from tornado_members.http.admission import bearer_token
from tornado_members.http.cache_control import has_no_cache
from tornado_members.http.common_headers import valid_request_id
from tornado_members.http.conditional import has_conditions
from tornado_members.http.cors import cross_origin_headers
from tornado_members.http.negotiation import accepts
from tornado_members.http.responses import PreparedHeaders
from tornado_members.http1.exchange import Exchange
from tornado_members.openapi.operation import JSON
from tornado_members.settings import Cors

_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
# A handler must examine a request with one of these headers.
_NEED_HANDLER: Final = frozenset(
    {"Content-Length", "Expect", "If-Match", "If-Unmodified-Since", "Transfer-Encoding"}
)


class PlainRead(NamedTuple):
    """The parsed headers of a plain read, independent of its target."""

    token: VerifiedToken
    response: PreparedHeaders
    conditions: HTTPHeaders | None  # the headers, if the response may depend on them
    request_id: str | None
    traceparent: str | None


def plain_read(
    connection: HTTPConnection, headers: HTTPHeaders, tokens: TokenVerifier, cors: Cors
) -> PlainRead | None:
    """Parse the headers of a request; None if a handler must examine them.

    If the HTTP server detects repeated headers on a connection, they are parsed once.
    """
    if not isinstance(connection, Exchange):  # that of Tornado's server
        return _read_headers(headers, tokens, cors)
    cache = connection.head.cache
    read: PlainRead | None = cache.get(PlainRead)
    if read is None:
        read = _read_headers(headers, tokens, cors)
        if read is not None:
            cache[PlainRead] = read
    return read


def _read_headers(headers: HTTPHeaders, tokens: TokenVerifier, cors: Cors) -> PlainRead | None:
    """Parse the headers; None for a handler, and also if the token is not verified yet."""
    if not _NEED_HANDLER.isdisjoint(headers):
        return None
    if "Cache-Control" in headers and has_no_cache(headers["Cache-Control"]):
        return None
    if "Accept" in headers and not accepts(headers["Accept"], JSON):
        return None
    if "Host" not in headers or not _is_plain_host(headers["Host"]):
        return None
    bearer = bearer_token(headers)
    token = tokens.get_cached(bearer) if bearer else None
    if token is None:
        return None
    return PlainRead(
        token,
        PreparedHeaders(cross_origin_headers(cors, headers.get("Origin"))),
        conditions=headers if has_conditions(headers) else None,
        request_id=valid_request_id(headers),
        traceparent=headers.get("traceparent"),
    )


@lru_cache(256)
def _is_plain_host(host: str) -> bool:
    """Return True for a Host header that Tornado accepts in any case."""
    return _PLAIN_HOST.fullmatch(host) is not None
