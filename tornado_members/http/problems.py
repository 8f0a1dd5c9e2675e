"""Renders and logs the problems that end a request (RFC 9457)."""

import json
from logging import getLogger
from typing import Final

from tornado.web import HTTPError

from tornado_members.errors import BadRequest, InternalError, MethodNotAllowed, NotFound, Problem
from tornado_members.telemetry.logs import fields

log = getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
_MAX_CAUSE = 200  # characters


def problem_of(status: int, error: BaseException | None, method: str, allow: str) -> Problem:
    """Return the problem to send for an exception, or for a status that Tornado chose."""
    if isinstance(error, Problem):
        return error
    if status == 405:
        return MethodNotAllowed(method, allow)
    if status == 404:
        return NotFound()
    if 400 <= status < 500:
        return BadRequest("The request is malformed.")
    return InternalError()


def encode_problem(problem: Problem, request_id: str, base_path: str = "") -> bytes:
    """Return the JSON of a problem; `base_path` is the prefix of the addresses in it."""
    text = json.dumps(problem.to_dict(request_id, base_path), ensure_ascii=False)
    # It may quote the request; a lone surrogate cannot be encoded in UTF-8.
    return text.encode("utf-8", "replace")


def log_failure(error: BaseException | None, request_id: str, route: str) -> None:
    """Log the failure of a request, with a traceback if the error was unexpected."""
    if isinstance(error, Problem):
        if error.status >= 500:
            cause = str(error.__cause__)[:_MAX_CAUSE] if error.__cause__ else None
            extra = fields(request_id=request_id, code=error.code, cause=cause)
            log.warning("%s", error, extra=extra)
    elif isinstance(error, HTTPError) and error.status_code < 500:
        log.debug("%s", error, extra=fields(request_id=request_id))
    else:
        extra = fields(request_id=request_id, route=route)
        log.error("request failed", exc_info=error, extra=extra)
