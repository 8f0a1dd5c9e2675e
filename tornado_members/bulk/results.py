"""The results of an import, as lines of JSON."""

import json
import re
from collections import Counter
from typing import Any

from tornado_members.bulk.loader import Outcome, Result
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rejects import RejectedRows
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.errors import (
    BodyTooLarge,
    InvalidMember,
    NameTaken,
    Problem,
    UnreadableFile,
)

_STATUS = {
    Result.CREATED: 201,
    Result.REPLACED: 200,
    Result.UNCHANGED: 200,
    Result.SKIPPED: 200,
    Result.TAKEN: NameTaken.status,
}
_to_json = json.JSONEncoder(ensure_ascii=False).encode
_MOST_UNUSED = 10  # further values of a cell that are listed
# Characters that JSON allows, and that terminals execute or that reorder text.
_HARMFUL = re.compile("[\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class ResultWriter:
    """Encodes the result of each row, and counts for the summary."""

    def __init__(
        self,
        info: FileInfo,
        *,
        failures_only: bool = False,
        rejects_of: FileOptions | None = None,
        base_path: str = "",
    ) -> None:
        """`rejects_of`: the options of a file whose refused rows are returned with their cells.

        `base_path` begins the addresses of members.
        """
        self._info = info
        self._base_path = base_path
        # The beginning of an address in JSON, whose id and closing quote follow.
        self._members = _to_json(f"{base_path}/members/")[:-1]
        self._rejects_of = rejects_of
        self._rejects: RejectedRows | None = None
        self._failures_only = failures_only
        self._counts: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def outcome(self, row: Row, outcome: Outcome | Refusal) -> bytes:
        """Return the line of a row; nothing for a success if only failures are requested.

        The id of a member that a dry run would create is not shown.
        """
        if isinstance(outcome, Refusal):
            return self._refusal(row, outcome)
        is_taken = outcome.result is Result.TAKEN
        code = NameTaken.code if is_taken else outcome.result.value
        (self._refused if is_taken else self._counts)[code] += 1
        if self._failures_only and not is_taken:
            return b""
        status, member_id = _STATUS[outcome.result], outcome.member_id
        has_member = member_id is not None and member_id > 0
        if has_member and not (outcome.twice or is_taken or row.unused):
            # Most lines have this form. A JSON encoder takes three times as long.
            line = f'{{"line": {row.line}, "status": {status}, "code": "{code}", '
            return f'{line}"member": {self._members}{member_id}"}}\n'.encode()
        result: dict[str, Any] = {"line": row.line, "status": status, "code": code}
        if has_member:
            result["member"] = f"{self._base_path}/members/{member_id}"
        if outcome.twice:
            result["twice"] = True
        if is_taken:
            result |= self._cells(row)
        if row.unused:
            result["unused"] = {key: rest[:_MOST_UNUSED] for key, rest in row.unused.items()}
        return _encode(result)

    def summary(self) -> bytes:
        """Return the last line of a complete import."""
        summary: dict[str, Any] = dict(self._counts)
        if self._refused:
            summary["refused"] = dict(self._refused)
        line: dict[str, Any] = {"summary": summary}
        if self._info.unknown_fields:
            line["ignored"] = [*self._info.unknown_fields]
        if self._rejects_of:
            line["file"] = self._file(self._rejects_of)
        return _encode(line)

    def end(self, line: int, problem: Problem) -> bytes:
        """Return the last line of an aborted import: the problem, and the first line not loaded."""
        result: dict[str, Any] = {"line": line, "status": problem.status, "code": problem.code}
        if isinstance(problem, BodyTooLarge | UnreadableFile):
            result["detail"] = problem.detail
        return _encode(result)

    def _refusal(self, row: Row, refusal: Refusal) -> bytes:
        self._refused[InvalidMember.code] += 1
        errors = [{"pointer": fault.pointer, "detail": fault.detail} for fault in refusal.faults]
        result = {"line": row.line, "status": InvalidMember.status, "code": InvalidMember.code}
        return _encode({**result, "errors": errors, **self._cells(row)})

    def _cells(self, row: Row) -> dict[str, Any]:
        if self._rejects_of is None:
            return {}
        if self._rejects is None:
            self._rejects = RejectedRows(self._info, self._rejects_of)
        return {"cells": self._rejects.cells(row)}

    def _file(self, options: FileOptions) -> dict[str, Any]:
        """Return the format of the file, and from which column each field is read."""
        info, mapping = self._info, self._info.mapping
        found: dict[str, Any] = {"format": info.format}
        if mapping:
            found["header"] = [*mapping.header]
            found["columns"] = {
                field: [mapping.header[i] for i in sources[0]]
                for field, sources in mapping.sources.items()
            }
            found["ignored"] = mapping.ignored
        found["rejectsHeader"] = RejectedRows(info, options).header
        return found


def _encode(result: dict[str, Any]) -> bytes:
    text = _to_json(result)
    if text.isascii() and "\x7f" not in text:
        return text.encode() + b"\n"
    # A lone surrogate has no encoding in UTF-8; it is escaped, as the caller sent it.
    text = _HARMFUL.sub(lambda m: f"\\u{ord(m[0]):04x}", text)
    return text.encode() + b"\n"
