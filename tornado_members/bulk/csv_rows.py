"""Rows of a CSV file (RFC 4180) as other people write them; each comes out, or its fault does."""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Final

from tornado_members.bulk.csv_export import ID_HEADING
from tornado_members.bulk.formula_cells import restore
from tornado_members.bulk.lines import LineCutter, Record, Records
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.errors import InvalidMember, UnreadableFile
from tornado_members.model.fields import FieldTable, heading_key
from tornado_members.model.member import MEMBER_FIELDS, MemberDraft, parse_draft

_DELIMITERS: Final = ",;\t|"
_BYTE_ORDER_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LONGEST_MARK: Final = 3
_SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*')
# Bytes that do not fit the encoding come out of the decoder as these (PEP 383). In UTF-16, half a
# character cannot be kept as it came.
_UNDECODED = re.compile("[\udc80-\udcff]")
_UNDECODED_UTF_16 = re.compile("\ufffd")
_CHUNK: Final = 65536  # bytes
LONGEST_RECORD: Final = 131_072  # characters: as many as the csv module takes in one cell


class CsvRows:
    """A CSV file whose header names the columns; columns that are not a member's are ignored."""

    def __init__(
        self,
        *,
        encoding: str = "utf-8",
        columns: Mapping[str, str] | None = None,
        longest: int = LONGEST_RECORD,
        longest_line: int | None = None,
        fields: FieldTable = MEMBER_FIELDS,
    ) -> None:
        """`columns` names the heading of a field where it is not the usual one.

        A record may have `longest` characters. Of longer lines as many are kept as `longest_line`
        says, which is then no less.
        """
        self.encoding = encoding
        self.header: list[str] = []
        self.delimiter = ""  # until the header is known
        self.positions: dict[str, int] = {}
        self._columns = columns or {}
        self._fields = fields
        self._longest = longest
        self._start = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._undecoded = _UNDECODED
        self._cutter = LineCutter(longest_line)
        self._early: list[str] = []  # lines, before it is known how to cut them
        self._records: Records | None = None
        self._is_export = False
        self._ended = False

    @property
    def ignored(self) -> list[str]:
        """The headings of columns that hold nothing of a member."""
        known = self.positions.values()
        return [heading for i, heading in enumerate(self.header) if i not in known]

    def push(self, data: bytes) -> None:
        """More of the file. Raises UnreadableFile where it has no column for the name."""
        if self._decoder is None:
            self._start += data
            if len(self._start) < _LONGEST_MARK:
                return
            data, self._start = self._start, b""
        self._add(self._cutter.cut(self._decode(data, final=False)))

    def close(self) -> None:
        """Raises UnreadableFile where there was no header with a column for the name."""
        rest = self._cutter.cut(self._decode(self._start, final=True))
        self._ended = True
        self._add([*rest, *self._cutter.end()])
        if not self.header:
            raise UnreadableFile("the file is empty; its first line should name the columns")

    def ready(self) -> Iterator[Row]:
        if self._records is None or not self.header:
            return
        for record in self._records.ready(ended=self._ended):
            cells = self._cut(record)
            if isinstance(cells, Refusal):
                yield Row(record.line, (record.lines[0].rstrip("\r\n"),), cells, broken=True)
            elif any(cell.strip() for cell in cells):
                yield Row(record.line, cells, self._check(cells))

    def _decode(self, data: bytes, *, final: bool) -> str:
        if self._decoder is None:
            marks = _BYTE_ORDER_MARKS.items()
            marked = (name for mark, name in marks if data.startswith(mark))
            self.encoding = next(marked, self.encoding)
            is_utf_16 = self.encoding == "utf-16"
            self._undecoded = _UNDECODED_UTF_16 if is_utf_16 else _UNDECODED
            errors = "replace" if is_utf_16 else "surrogateescape"
            self._decoder = codecs.getincrementaldecoder(self.encoding)(errors)
        return self._decoder.decode(data, final)

    def _add(self, lines: list[str]) -> None:
        if self._records is not None:
            self._records.push(lines)
        else:
            self._early += lines
            self._begin()
        if self._records is not None and not self.header:
            self._read_header(self._records)

    def _begin(self) -> None:
        """Find out how the file's lines are to be cut, from the first that is not blank."""
        skipped = 0
        while skipped < len(self._early) and self._early[skipped].isspace():
            skipped += 1
        if skipped == len(self._early):
            return
        first, delimiters = self._early[skipped], _DELIMITERS
        if told := _SEPARATOR.fullmatch(first):  # Excel's way to name it
            skipped += 1
            if skipped == len(self._early):
                return
            first, delimiters = self._early[skipped], told[1]
        # The delimiter is the one that cuts the header into the most columns.
        widths = [len(_cells([first[: self._longest]], d)) for d in delimiters]
        self.delimiter = delimiters[widths.index(max(widths))]
        self._records = Records(self.delimiter, self._longest, skipped + 1)
        self._records.push(self._early[skipped:])
        self._early.clear()

    def _read_header(self, records: Records) -> None:
        record = next(records.ready(ended=self._ended), None)
        if record is None:
            return
        if record.reason:
            raise UnreadableFile(f"the header cannot be read as CSV: it {record.reason}")
        self.header = _cells(record.lines, self.delimiter)
        self.positions = _find_columns(self.header, self._columns, self._fields.by_heading)
        self._is_export = ID_HEADING in self.header

    def _cut(self, record: Record) -> Sequence[str] | Refusal:
        if record.reason:
            return Refusal.of_row("bad quoting", f"cannot be read as CSV: it {record.reason}")
        try:
            return _cells(record.lines, self.delimiter)
        except csv.Error as error:
            return Refusal.of_row("bad quoting", f"cannot be read as CSV: {error}")

    def _check(self, cells: Sequence[str]) -> MemberDraft | Refusal:
        width = len(self.header)
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            detail = f"has {len(cells)} cells where the header has {width}"
            return Refusal.of_row("wrong number of cells", detail)
        values = {field: self._text(cells[i]) for field, i in self.positions.items()}
        if any(text and self._undecoded.search(text) for text in values.values()):
            detail = f"has bytes that are not {self.encoding.removesuffix('-sig')}"
            return Refusal.of_row("wrong encoding", detail)
        if values["name"] is None:
            return Refusal.of_field("no name", "/name", "is missing")
        try:
            return parse_draft(values, fields=self._fields)
        except InvalidMember as error:
            return Refusal(f"bad {error.faults[0].pointer[1:]}", error.faults)

    def _text(self, cell: str) -> str | None:
        """What a cell says. People put spaces round it; an export has none but the member's own."""
        text = cell.strip()
        return restore(cell if self._is_export else text) if text else None


class CsvFile(CsvRows):
    """The same of a file that is there."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        encoding: str = "utf-8",
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """Raises UnreadableFile where there is no header with a column for the name."""
        super().__init__(encoding=encoding, columns=columns)
        self._stream = stream
        while not self.header:
            self._read()

    def __iter__(self) -> Iterator[Row]:
        yield from self.ready()
        while not self._ended:
            self._read()
            yield from self.ready()

    def _read(self) -> None:
        data = self._stream.read(_CHUNK)
        self.push(data) if data else self.close()


def _cells(lines: list[str], delimiter: str) -> list[str]:
    return next(csv.reader(lines, delimiter=delimiter))


def _find_columns(
    header: Sequence[str], columns: Mapping[str, str], by_heading: Mapping[str, str]
) -> dict[str, int]:
    """Which column holds which field. Raises UnreadableFile."""
    positions: dict[str, int] = {}
    named = {heading.strip().lower(): field for field, heading in columns.items()}
    for i, heading in enumerate(header):
        field = named.get(heading.strip().lower())
        if field is None and (usual := by_heading.get(heading_key(heading))) not in columns:
            field = usual
        if field is not None and field in positions:
            first = header[positions[field]]
            raise UnreadableFile(f"two columns hold the {field}: {first!r} and {heading!r}")
        if field is not None:
            positions[field] = i
    if missing := [columns[field] for field in columns if field not in positions]:
        raise UnreadableFile(f"the header has no column {missing[0]!r}: {_shown(header)}")
    if "name" not in positions:
        raise UnreadableFile(f"the header has no column 'name': {_shown(header)}")
    return positions


def _shown(header: Sequence[str]) -> str:
    columns = ", ".join(repr(heading[:40]) for heading in header[:20])
    return f"it has {columns}"
