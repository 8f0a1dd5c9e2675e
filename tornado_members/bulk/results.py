"""What became of each row of an import, as lines of JSON."""

import json
from typing import Any

from tornado_members.bulk.loader import Outcome, Result
from tornado_members.bulk.rows import Refusal
from tornado_members.errors import BodyTooLarge, InternalError, InvalidMember, NameTaken, Problem

_STATUS = {
    Result.CREATED: 201,
    Result.REPLACED: 200,
    Result.UNCHANGED: 200,
    Result.SKIPPED: 200,
    Result.TAKEN: NameTaken.status,
}


def encode_outcome(line: int, outcome: Outcome | Refusal) -> bytes:
    """The result of a row; the id of a member that is not there yet stays out of it."""
    if isinstance(outcome, Refusal):
        return _tell_refusal(line, outcome)
    is_taken = outcome.result is Result.TAKEN
    result: dict[str, Any] = {
        "line": line,
        "status": _STATUS[outcome.result],
        "code": NameTaken.code if is_taken else outcome.result.value,
    }
    if outcome.member_id is not None and outcome.member_id > 0:
        result["member"] = f"/members/{outcome.member_id}"
    if outcome.twice:
        result["twice"] = True
    return _encode(result)


def encode_end(line: int, problem: Problem | None) -> bytes:
    """The last line of an import that did not come to its end: what stopped it, and where."""
    stopped = problem or InternalError()
    result: dict[str, Any] = {"line": line, "status": stopped.status, "code": stopped.code}
    if isinstance(stopped, BodyTooLarge):
        result["detail"] = stopped.detail
    return _encode(result)


def _tell_refusal(line: int, refusal: Refusal) -> bytes:
    errors = [{"pointer": fault.pointer, "detail": fault.detail} for fault in refusal.faults]
    return _encode(
        {"line": line, "status": InvalidMember.status, "code": InvalidMember.code, "errors": errors}
    )


def _encode(result: dict[str, Any]) -> bytes:
    # What a caller sent may stand in it: a lone surrogate there has no UTF-8.
    return json.dumps(result, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
