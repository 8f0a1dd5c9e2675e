"""Members as lines of JSON (NDJSON), as they come."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tornado_members.bulk.rows import Refusal, Row
from tornado_members.errors import Fault, InvalidMember
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MAX_MEMBER_ID, MEMBER_FIELDS, MemberDraft, parse_draft
from tornado_members.model.strict_json import parse_object

_MOST_FAULTS: Final = 20  # that are told of one line
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class JsonRows:
    """A member a line; blank lines are none.

    A line may have a memberId, as those of an export do: it says where the member was, and the
    service says where it will be.
    """

    def __init__(self, longest: int, fields: FieldTable = MEMBER_FIELDS) -> None:
        """`longest` is the maximum length of a line in bytes."""
        self._longest = longest
        self._fields = fields
        self._lines: deque[bytes] = deque()
        self._begun = bytearray()  # a line whose end has not come
        self._line = 0

    def push(self, data: bytes) -> None:
        first, *rest = data.split(b"\n")
        self._keep(first)
        for line in rest:
            self._lines.append(bytes(self._begun))
            self._begun.clear()
            self._keep(line)

    def close(self) -> None:
        if self._begun:
            self._lines.append(bytes(self._begun))
            self._begun.clear()

    def ready(self) -> Iterator[Row]:
        while self._lines:
            line = self._lines.popleft()
            self._line += 1
            if self._line == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line and not line.isspace():
                yield Row(self._line, (), self._check(line))

    def _keep(self, data: bytes) -> None:
        """One byte more than allowed is enough to know."""
        self._begun += data[: self._longest + 1 - len(self._begun)]

    def _check(self, line: bytes) -> MemberDraft | Refusal:
        if len(line) > self._longest:
            return Refusal.of_row("too long", f"has more than {self._longest} bytes")
        try:
            values = parse_object(line)
        except ValueError as error:
            return Refusal.of_row("not JSON", str(error))
        return _parse_row(values, self._fields)


def _parse_row(values: Mapping[str, Any], fields: FieldTable) -> MemberDraft | Refusal:
    rest = dict(values)
    faults: list[Fault] = []
    member_id = rest.pop("memberId", 1)
    if type(member_id) is not int or not 1 <= member_id <= MAX_MEMBER_ID:
        faults.append(Fault("/memberId", f"must be an integer from 1 to {MAX_MEMBER_ID}"))
    try:
        draft = parse_draft(rest, fields=fields)
    except InvalidMember as error:
        faults += error.faults
    if faults:
        return Refusal(f"bad {faults[0].pointer[1:]}", faults[:_MOST_FAULTS])
    return draft
