"""Problem responses to requests that the HTTP server refuses, before any handler runs."""

import json
import uuid
from collections.abc import Mapping
from logging import getLogger

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
from tornado_members.http.responses import SECURITY_HEADERS
from tornado_members.http1.refusals import BodyOverLimit, Refused, TooManyBodies

log = getLogger(__name__)

_KINDS: Mapping[int, type[Problem]] = {
    408: RequestTooSlow,
    414: TargetTooLong,
    431: HeadersTooLarge,
    505: VersionNotSupported,
}


def render_refusal(refused: Refused) -> tuple[Mapping[str, str], bytes]:
    """Return the headers and the body of a problem (RFC 9457)."""
    problem = _problem(refused)
    request_id = uuid.uuid4().hex
    log.info("%s: refused with %d: %s", request_id, problem.status, problem.detail)
    headers = {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        **problem.headers,
        **SECURITY_HEADERS,
    }
    return headers, json.dumps(problem.to_dict(request_id)).encode()


def _problem(refused: Refused) -> Problem:
    if isinstance(refused, BodyOverLimit):
        return BodyTooLarge(refused.limit)
    if isinstance(refused, TooManyBodies):
        return Overloaded()
    return _KINDS.get(refused.status, BadRequest)(refused.reason)
