"""What a client is told whose request is refused before any handler has seen it."""

import json
import uuid
from collections.abc import Mapping
from logging import getLogger

from tornado_members.errors import (
    BadRequest,
    BodyTooLarge,
    HeadersTooLarge,
    Problem,
    RequestTooSlow,
    TargetTooLong,
    VersionNotSupported,
)
from tornado_members.http.responses import SECURITY_HEADERS
from tornado_members.transport.refusals import BodyOverLimit, Refused

log = getLogger(__name__)

_KINDS: Mapping[int, type[Problem]] = {
    408: RequestTooSlow,
    414: TargetTooLong,
    431: HeadersTooLarge,
    505: VersionNotSupported,
}


def render_refusal(refused: Refused) -> tuple[Mapping[str, str], bytes]:
    """A problem (RFC 9457), with the headers that all answers have."""
    problem = _problem(refused)
    request_id = uuid.uuid4().hex
    log.info("%s: refused with %d: %s", request_id, problem.status, problem.detail)
    headers = {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        **SECURITY_HEADERS,
    }
    return headers, json.dumps(problem.to_dict(request_id)).encode()


def _problem(refused: Refused) -> Problem:
    if isinstance(refused, BodyOverLimit):
        return BodyTooLarge(refused.limit)
    return _KINDS.get(refused.status, BadRequest)(refused.reason)
