"""Problem responses to requests that the HTTP server refuses, before any handler runs."""

import json
import uuid
from collections.abc import Mapping
from logging import getLogger

from tornado.httputil import HTTPHeaders

from tornado_members.errors import (
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    Overloaded,
    Problem,
    RequestTooSlow,
    TargetTooLong,
    VersionNotSupported,
)
from tornado_members.http.cors import cross_origin_headers
from tornado_members.http.forwarded import TrustedProxies
from tornado_members.http.responses import SECURITY_HEADERS
from tornado_members.http1.refusals import (
    BodyOverLimit,
    Refused,
    TooManyBodies,
    TooManyConnections,
)
from tornado_members.settings import Cors
from tornado_members.telemetry.logs import fields

log = getLogger(__name__)

_KINDS: Mapping[int, type[Problem]] = {
    408: RequestTooSlow,
    414: TargetTooLong,
    431: HeadersTooLarge,
    505: VersionNotSupported,
}


# The headers of a refused request are unknown or untrusted, including those of proxies.
_NO_PROXIES = TrustedProxies()
_NO_HEADERS = HTTPHeaders()
_NO_ORIGINS = Cors()


def render_refusal(
    refused: Refused, peer: str, origin: str | None = None, *, rules: Cors = _NO_ORIGINS
) -> tuple[Mapping[str, str], bytes]:
    """Return the headers and the body of a problem (RFC 9457), and log it.

    `peer` is the address of the connection: of the client, or of the proxy in front. The CORS
    headers let the script that sent the request read the problem. `origin` is None if the Origin
    header has not arrived.
    """
    problem = _problem(refused)
    request_id = uuid.uuid4().hex
    extra = fields(
        request_id=request_id,
        code=problem.code,
        client_address=_NO_PROXIES.caller(peer, _NO_HEADERS),
    )
    log.info("refused with %d: %s", problem.status, problem.detail, extra=extra)
    headers = {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        **cross_origin_headers(rules, origin or _only_origin(rules)),
        **problem.headers,
        **SECURITY_HEADERS,
    }
    return headers, json.dumps(problem.to_dict(request_id)).encode()


def _only_origin(rules: Cors) -> str | None:
    """Return the only origin whose scripts may have sent the request, if there is one."""
    return rules.origins[0] if len(rules.origins) == 1 else None


def _problem(refused: Refused) -> Problem:
    if isinstance(refused, BodyOverLimit):
        return BodyTooLarge(refused.limit)
    if isinstance(refused, TooManyBodies):
        return Overloaded()
    if isinstance(refused, TooManyConnections):
        return Overloaded(refused.reason)
    return _KINDS.get(refused.status, BadRequest)(refused.reason)
