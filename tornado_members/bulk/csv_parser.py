"""Parses the records of a CSV file (RFC 4180) from pieces of any size.

No record ever begins within quotes. A quote that is never closed makes the rest of the file part
of one record, which is refused. After a misplaced quote, the parser counts quotes: the record ends
at the first line end with an even number of quotes before it.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from typing import Final, NamedTuple

MAX_COLUMNS: Final = 1000
MAX_RECORD: Final = 16 * 1024 * 1024  # characters; longer records are refused up to their end
_MAX_KEPT: Final = 64 * 1024  # characters of a cell that are kept; the rest is skipped
_MAX_ALL_KEPT: Final = 1024 * 1024  # characters of a record
# Also lines with nothing but the end-of-file character of DOS.
_BLANK: Final = r"[^\S\n]*+(?:\x1a[^\S\n]*+)?+"
_BLANK_LINE: Final = re.compile(_BLANK)
_BLANK_LINES: Final = re.compile(rf"(?:{_BLANK}\n)+")
_SPACES: Final = re.compile(r"[ \xa0]*")
_QUOTE_OR_END: Final = re.compile(r'["\n]')


class _State(Enum):
    RECORD_START = auto()
    CELL_START = auto()
    UNQUOTED = auto()
    QUOTED = auto()
    QUOTE = auto()  # after a quote within quotes: it closes the cell, or begins an escaped quote
    CLOSED = auto()  # after a closing quote and a space
    MALFORMED_OUTSIDE = auto()  # the record is refused; an even number of quotes was counted
    MALFORMED_INSIDE = auto()


class Record(NamedTuple):
    """The cells of a record, or its text and why it cannot be read."""

    line: int
    cells: list[str]
    fault: str | None = None
    raw: str = ""  # the beginning of the text, if there is a fault
    cut: frozenset[int] = frozenset()  # positions of cells that were too long to be kept
    broken: frozenset[int] = frozenset()  # and of cells whose formula has failed, in a workbook


class CsvParser:
    """Divides text whose line ends are newlines into records."""

    def __init__(self, delimiter: str, line: int = 1) -> None:
        """`line` is the number of the first line."""
        self.delimiter = delimiter
        self.line = line
        self._cell_end = re.compile(f"[{re.escape(delimiter)}\n]")
        cell = f'(?:"(?:[^"]++|"")*+"|[^"{re.escape(delimiter)}]*+)'
        self._well_formed = re.compile(f"{cell}(?:{re.escape(delimiter)}{cell})*+")
        self._state = _State.RECORD_START
        self._carry = ""  # the beginning of a line without quotes
        self._steps: dict[_State, Callable[[str, int], tuple[int, bool]]] = {
            _State.CELL_START: self._in_cell_start,
            _State.UNQUOTED: self._in_unquoted,
            _State.QUOTED: self._in_quoted,
            _State.QUOTE: self._in_quote,
            _State.CLOSED: self._in_closed,
            _State.MALFORMED_OUTSIDE: self._in_malformed_outside,
            _State.MALFORMED_INSIDE: self._in_malformed_inside,
        }
        self._begin()

    def _begin(self) -> None:
        """Prepare for a record that begins on the current line."""
        self._first_line = self.line
        self._cells: list[str] = []
        self._count = 0  # of cells, including those that are not kept
        self._cell: list[str] = []
        self._cell_size = self._kept = self._size = 0
        self._last = ""  # the last character of the cell
        self._cut: set[int] = set()
        self._fault: str | None = None
        self._raw: list[str] = []
        self._raw_size = 0
        self._spaces = ""

    def feed(self, text: str) -> Iterator[Record]:
        """Yield the records that end in this piece."""
        text, self._carry = self._carry + text, ""
        if self._state is _State.RECORD_START and '"' not in text:
            lines = text.split("\n")
            if max(map(len, lines)) <= _MAX_KEPT:
                self._carry = lines.pop()
                yield from self._split_all(lines)
                return
        at = 0
        while at < len(text):
            if self._state is _State.RECORD_START:
                if blank := _BLANK_LINES.match(text, at):
                    at = blank.end()
                    self.line += text.count("\n", blank.start(), at)
                    continue
                end = text.find("\n", at)
                line = text[at:] if end < 0 else text[at:end]
                if len(line) <= _MAX_KEPT and (end < 0 or '"' not in line):
                    if end >= 0:
                        at = end + 1
                        yield self._split(line)
                        continue
                    if '"' not in line:
                        self._carry = line
                        return
                elif end >= 0 and len(line) <= _MAX_KEPT and self._well_formed.fullmatch(line):
                    at = end + 1
                    yield self._split(line, is_quoted=True)
                    continue
                self._begin()
                self._state = _State.CELL_START
            start = at
            at, is_complete = self._scan(text, at)
            self._note(text, start, at)
            if is_complete:
                yield self._finish()

    def close(self) -> Iterator[Record]:
        """Yield the record that the end of the file completes."""
        if self._state is _State.RECORD_START:
            if self._carry.strip("\x1a \t"):
                yield self._split(self._carry)
            return
        if self._state in (_State.QUOTED, _State.MALFORMED_INSIDE):
            self._fault = "has a quote that is never closed: nothing after it was read"
        self._end_cell()
        yield self._finish()

    def _split_all(self, lines: Iterable[str]) -> Iterator[Record]:
        """Yield the records in lines without quotes, which are not too long."""
        for line in lines:
            if not line or line.isspace() or ("\x1a" in line and _BLANK_LINE.fullmatch(line)):
                self.line += 1
            else:
                yield self._split(line)

    def _split(self, line: str, *, is_quoted: bool = False) -> Record:
        """Return the record in a line without line breaks in its cells."""
        self.line += 1
        if line.count(self.delimiter) >= MAX_COLUMNS:
            return Record(self.line - 1, [], _too_wide(), line[:_MAX_KEPT])
        if is_quoted:
            return Record(self.line - 1, next(csv.reader([line], delimiter=self.delimiter)))
        return Record(self.line - 1, line.split(self.delimiter))

    def _finish(self) -> Record:
        self._state = _State.RECORD_START
        if self._size > MAX_RECORD:
            self._fault = f"has more than {MAX_RECORD:,} characters"
        elif self._count > MAX_COLUMNS:
            self._fault = self._fault or _too_wide()
        if self._fault:
            raw = "".join(self._raw).rstrip("\n")
            return Record(self._first_line, [], self._fault, raw)
        return Record(self._first_line, self._cells, cut=frozenset(self._cut))

    def _note(self, text: str, start: int, end: int) -> None:
        """Count lines and characters that were scanned, and keep the first of them."""
        self.line += text.count("\n", start, end)
        self._size += end - start
        if self._raw_size < _MAX_KEPT:
            piece = text[start : min(end, start + _MAX_KEPT - self._raw_size)]
            self._raw.append(piece)
            self._raw_size += len(piece)

    def _scan(self, text: str, at: int) -> tuple[int, bool]:
        """Scan to the end of a record or of the text. Return the offset, and if a record ended."""
        is_complete = False
        while at < len(text) and not is_complete:
            at, is_complete = self._steps[self._state](text, at)
        return at, is_complete

    def _in_cell_start(self, text: str, at: int) -> tuple[int, bool]:
        """Skip spaces; they belong to the cell unless a quote follows."""
        found = _SPACES.match(text, at)
        end = found.end() if found else at
        if len(self._spaces) < _MAX_KEPT:
            self._spaces += text[at:end]
        if end == len(text):
            return end, False
        if text[end] == '"':
            self._state, self._spaces = _State.QUOTED, ""
            return end + 1, False
        self._state = _State.UNQUOTED
        self._add(self._spaces)
        self._spaces = ""
        return end, False

    def _in_unquoted(self, text: str, at: int) -> tuple[int, bool]:
        found = self._cell_end.search(text, at)
        end = found.start() if found else len(text)
        self._add(text[at:end])
        return self._after_cell(text, end) if found else (end, False)

    def _in_quoted(self, text: str, at: int) -> tuple[int, bool]:
        end = text.find('"', at)
        if end < 0:
            self._add(text[at:])
            return len(text), False
        self._add(text[at:end])
        self._state = _State.QUOTE
        return end + 1, False

    def _in_quote(self, text: str, at: int) -> tuple[int, bool]:
        if text[at] == '"':
            self._add('"')
            self._state = _State.QUOTED
            return at + 1, False
        return self._in_closed(text, at)

    def _in_closed(self, text: str, at: int) -> tuple[int, bool]:
        if text[at] in (self.delimiter, "\n"):
            return self._after_cell(text, at)
        if text[at] in " \xa0\t":
            self._state = _State.CLOSED
            return at + 1, False
        self._fault = "has text after a closing quote"
        # After a delimiter or a line end it is taken for an opening quote: the quote before it was
        # never closed, and this position is within quotes.
        is_opening = self._state is _State.QUOTE and self._last in (self.delimiter, "\n")
        self._state = _State.MALFORMED_INSIDE if is_opening else _State.MALFORMED_OUTSIDE
        return at, False

    def _in_malformed_outside(self, text: str, at: int) -> tuple[int, bool]:
        found = _QUOTE_OR_END.search(text, at)
        if found is None:
            return len(text), False
        if found[0] == '"':
            self._state = _State.MALFORMED_INSIDE
        return found.end(), found[0] == "\n"

    def _in_malformed_inside(self, text: str, at: int) -> tuple[int, bool]:
        end = text.find('"', at)
        if end < 0:
            return len(text), False
        self._state = _State.MALFORMED_OUTSIDE
        return end + 1, False

    def _after_cell(self, text: str, at: int) -> tuple[int, bool]:
        """End a cell at its delimiter or line end. Return the next offset; True after a record."""
        self._end_cell()
        self._state = _State.CELL_START
        return at + 1, text[at] == "\n"

    def _add(self, piece: str) -> None:
        """Keep a piece of a cell, up to a limit."""
        if not piece:
            return
        self._last = piece[-1]
        room = min(_MAX_KEPT - self._cell_size, _MAX_ALL_KEPT - self._kept)
        if len(piece) > room:
            self._cut.add(self._count)
            if room <= 0:
                return
            piece = piece[:room]
        self._cell.append(piece)
        self._cell_size += len(piece)
        self._kept += len(piece)

    def _end_cell(self) -> None:
        if self._count < MAX_COLUMNS:
            self._cells.append("".join(self._cell))
        self._count += 1
        self._cell.clear()
        self._cell_size = 0
        self._last = ""


def _too_wide() -> str:
    return f"has more than {MAX_COLUMNS:,} cells"
