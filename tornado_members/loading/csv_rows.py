"""Rows of a CSV file (RFC 4180) as other people write them; each comes out, or its fault does."""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import Final

from tornado_members.errors import NotAMember
from tornado_members.member import MemberDraft, parse_draft

_DELIMITERS: Final = ",;\t|"
_FIELDS: Final = ("name", "email", "phone")
# How people head these columns, in lower case and without anything but letters.
_HEADINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("name", "fullname"), "name"),
    **dict.fromkeys(("email", "emailaddress", "mail"), "email"),
    **dict.fromkeys(("phone", "phonenumber", "telephone", "tel"), "phone"),
}
_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*')
# Bytes that do not fit the encoding come out of the decoder as these (PEP 383).
_UNDECODED = re.compile("[\udc80-\udcff\ufffd]")


class CsvUnusable(Exception):
    """No row of the file can be read. The text says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row was not loaded: a kind for counting, and a sentence."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row: the line on which it begins, its cells, and the member in it or why there is none."""

    line: int
    cells: Sequence[str]
    content: MemberDraft | Refusal
    broken: bool = False  # could not be cut into cells: the only one is the text of the line


class CsvFile:
    """A CSV file whose header names the columns; columns that are not a member's are ignored."""

    def __init__(
        self,
        stream: BufferedReader,
        *,
        encoding: str = "utf-8",
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """`columns` names the heading of a field where it is not the usual one.

        Raises CsvUnusable where there is no header with a column for the name.
        """
        start = stream.peek(4)  # a pipe could not be read twice
        marked = (name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark))
        self.encoding = next(marked, encoding)
        # What cannot be decoded is marked, and refused with its row; in UTF-16, half a character
        # cannot be kept as it came.
        errors = "replace" if self.encoding == "utf-16" else "surrogateescape"
        text = io.TextIOWrapper(stream, encoding=self.encoding, errors=errors, newline="")
        self._lines = _Lines(text)
        try:
            self.header, self.delimiter = self._read_header()
        except csv.Error as error:
            raise CsvUnusable(f"the header cannot be read as CSV: {error}") from None
        self.positions = _find_columns(self.header, columns or {})

    def __iter__(self) -> Iterator[Row]:
        while (cells := self._next_record()) is not None:
            line = self._lines.record_start
            if isinstance(cells, Refusal):
                # A quote that is never closed would swallow all that follows: only the line on
                # which the record begins is given up.
                text = self._lines.give_back_all_but_first()
                yield Row(line, (text,), cells, broken=True)
            elif any(cell.strip() for cell in cells):
                yield Row(line, cells, self._check(cells))

    def _next_record(self) -> Sequence[str] | Refusal | None:
        self._lines.begin_record()
        reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        try:
            return next(reader, None)
        except csv.Error as error:
            return Refusal("bad quoting", f"cannot be read as CSV: {error}")

    def _check(self, cells: Sequence[str]) -> MemberDraft | Refusal:
        width = len(self.header)
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            reason = f"has {len(cells)} cells where the header has {width}"
            return Refusal("wrong number of cells", reason)
        fields = {field: cells[i].strip() or None for field, i in self.positions.items()}
        if any(text and _UNDECODED.search(text) for text in fields.values()):
            hint = "--encoding names another"
            return Refusal("wrong encoding", f"has bytes that are not {self.encoding}; {hint}")
        if fields["name"] is None:
            return Refusal("no name", "name is missing")
        try:
            return parse_draft(fields)
        except NotAMember as error:
            reason = "; ".join(f"{fault.pointer[1:]} {fault.detail}" for fault in error.faults)
            return Refusal(f"bad {error.faults[0].pointer[1:]}", reason)

    def _read_header(self) -> tuple[list[str], str]:
        self._lines.begin_record()
        while (first := next(self._lines, "")).isspace():
            self._lines.begin_record()
        delimiters = _DELIMITERS
        if told := _SEPARATOR.fullmatch(first):  # Excel's way to name it
            delimiters, first = told[1], next(self._lines, "")
        if not first:
            raise CsvUnusable("the file is empty; its first line should name the columns")
        candidates = [next(csv.reader([first], delimiter=d)) for d in delimiters]
        # The delimiter is the one that cuts the header into the most columns.
        delimiter = delimiters[candidates.index(max(candidates, key=len))]
        self._lines.give_back(first)
        return next(csv.reader(self._lines, delimiter=delimiter)), delimiter


def _find_columns(header: Sequence[str], columns: Mapping[str, str]) -> dict[str, int]:
    """Which column holds which field. Raises CsvUnusable."""
    positions: dict[str, int] = {}
    named = {heading.strip().lower(): field for field, heading in columns.items()}
    for i, heading in enumerate(header):
        field = named.get(heading.strip().lower())
        if field is None and not columns.keys() & (usual := _usual_field(heading)):
            field = next(iter(usual), None)
        if field is not None and field in positions:
            first = header[positions[field]]
            raise CsvUnusable(f"two columns hold the {field}: {first!r} and {heading!r}")
        if field is not None:
            positions[field] = i
    if missing := [columns[field] for field in columns if field not in positions]:
        raise CsvUnusable(f"the header has no column {missing[0]!r}: {_shown(header)}")
    if "name" not in positions:
        raise CsvUnusable(
            f"the header has no column 'name': {_shown(header)}; "
            "say which one it is with --column name=HEADING"
        )
    return positions


def _usual_field(heading: str) -> set[str]:
    field = _HEADINGS.get(re.sub("[^a-z]", "", heading.lower()))
    return {field} if field else set()


def _shown(header: Sequence[str]) -> str:
    columns = ", ".join(repr(heading[:40]) for heading in header[:20])
    return f"it has {columns}"


class _Lines:
    """Lines for csv.reader, numbered, of which those of a broken record can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._source = lines
        self._returned: deque[str] = deque()
        self._record: list[str] = []
        self._taken = 0
        self.record_start = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._source)
        self._taken += 1
        self._record.append(line)
        return line

    def begin_record(self) -> None:
        self._record.clear()
        self.record_start = self._taken + 1

    def give_back(self, line: str) -> None:
        self._returned.appendleft(line)
        self._taken -= 1

    def give_back_all_but_first(self) -> str:
        first, *rest = self._record
        self._returned.extendleft(reversed(rest))
        self._taken -= len(rest)
        return first.rstrip("\r\n")
