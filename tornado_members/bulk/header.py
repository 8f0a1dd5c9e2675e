"""Finds the header of a table, below other lines if there are any, and the delimiter."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tornado_members.bulk.csv_parser import CsvParser, Record
from tornado_members.bulk.decoding import TextDecoder
from tornado_members.bulk.mapping import ColumnMapping, map_columns, shown
from tornado_members.bulk.options import FileOptions
from tornado_members.errors import UnreadableFile

MAX_HEADER_LINE: Final = 20
DELIMITERS: Final = ",;\t|"
_SLICE: Final = 1024  # characters that are parsed with each delimiter before control is returned
_MAX_TEXT: Final = 128 * 1024  # characters in which the header has to be
# How Excel declares the delimiter, in the first line.
_DECLARATION: Final = re.compile(r'\s*"?sep=([^\w\s"]|\t)"?[^\S\n]*\n', re.IGNORECASE)
_FIRST_LINE: Final = re.compile(r"\s*[^\s][^\n]*\n")


def is_delimiter(text: str) -> bool:
    """True if the text can separate cells."""
    return len(text) == 1 and text not in '"\n\r' and not text.isalnum()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line that can be the header, and its rank: the smallest is the best."""

    rank: tuple[int, int, int, int]
    mapping: ColumnMapping
    line: int


class HeaderSearch:
    """Searches the first lines of a table for its header."""

    def __init__(self, options: FileOptions) -> None:
        self._options = options
        self._best: ColumnMapping | None = None  # of those that cannot be used
        self._best_line = 0

    def consider(self, line: int, header: Sequence[str], order: int = 0) -> Candidate | None:
        """Return a candidate if this line can be the header."""
        required = self._options.header_line
        if line != required if required else line > MAX_HEADER_LINE:
            return None
        mapping = map_columns(header, self._options.columns, self._options.fields)
        if mapping.is_usable:
            rank = (line, -len(mapping.sources), -len(header), order)
            return Candidate(rank, mapping, line)
        if self._best is None or self._score(mapping) > self._score(self._best):
            self._best, self._best_line = mapping, line
        return None

    def _score(self, mapping: ColumnMapping) -> tuple[int, int]:
        return len(mapping.sources), len(mapping.header)

    def fail(self, reason: str | None = None) -> UnreadableFile:
        """Return the error, with every reason why no line can be the header."""
        if self._best is None:
            where = self._options.header_line
            return UnreadableFile(
                reason or (f"the file ends before line {where}" if where else "the file is empty")
            )
        faults = [*([reason] if reason else []), *self._best.faults]
        if "name" not in self._best.sources:
            faults.append(
                f"no column holds the name: line {self._best_line} has "
                f"{shown(self._best.header)}. Assign one by its heading or number, such as column "
                "name=Heading or name=#1; first and last names are joined in the order given"
            )
        return UnreadableFile("; ".join(faults))


class CsvHeaderSearch:
    """Reads the beginning of a CSV file with each delimiter until one yields a header."""

    def __init__(self, options: FileOptions, decoder: TextDecoder) -> None:
        self._options = options
        self._decoder = decoder
        self._search = HeaderSearch(options)
        self._text = ""  # until the first line is complete
        self._size = 0
        self._parsers: list[CsvParser] | None = None
        self._records: list[list[Record]] = []
        self._undecoded: Record | None = None
        self._reason: str | None = None

    def find(
        self, pieces: Iterable[str]
    ) -> Iterator[tuple[CsvParser, Candidate, list[Record], str] | None]:
        """Yield None until the header is found, then a parser, the header, and the rest.

        The rest are the records after the header, and text that was not parsed yet.

        Raises UnreadableFile.
        """
        for piece, rest in _slices(pieces):
            if piece and (found := self._feed(piece, ended=False)):
                yield *found, rest
                return
            if self._is_over():
                self._reason = self._reason or (
                    f"no header was found in {MAX_HEADER_LINE} lines or {_MAX_TEXT:,} characters"
                )
                raise self._fail()
            yield None
        if found := self._feed("", ended=True):
            yield *found, ""
            return
        raise self._fail()

    def _fail(self) -> UnreadableFile:
        if self._undecoded:
            return UnreadableFile(self._describe(self._undecoded))
        return self._search.fail(self._reason)

    def _feed(self, piece: str, *, ended: bool) -> tuple[CsvParser, Candidate, list[Record]] | None:
        self._size += len(piece)
        if self._parsers is None:
            self._text += piece
            if not ended and not _FIRST_LINE.match(self._text) and self._size < _MAX_TEXT:
                return None
            piece = self._begin()
        found: list[tuple[Candidate, int, int]] = []
        for i, parser in enumerate(self._parsers or ()):
            fresh = [*parser.feed(piece), *(parser.close() if ended else ())]
            start = len(self._records[i])
            self._records[i] += fresh
            for place, record in enumerate(fresh, start):
                if candidate := self._consider(record, i):
                    found.append((candidate, i, place))
                    break
        if not found:
            return None
        candidate, i, place = min(found, key=lambda match: match[0].rank)
        parsers = self._parsers or []
        record = self._records[i][place]
        if any(self._decoder.undecoded.search(cell) for cell in record.cells):
            raise UnreadableFile(self._describe(record))
        return parsers[i], candidate, self._records[i][place + 1 :]

    def _begin(self) -> str:
        """Choose the delimiters to try; return the text from the first line of the table on."""
        text, line = self._text, 1
        delimiters: str = self._options.delimiter or DELIMITERS
        if declared := _DECLARATION.match(text):
            line += text.count("\n", 0, declared.end())
            text = text[declared.end() :]
            delimiters = self._options.delimiter or declared[1]
        self._parsers = [CsvParser(delimiter, line) for delimiter in delimiters]
        self._records = [[] for _ in delimiters]
        self._text = ""
        return text

    def _consider(self, record: Record, order: int) -> Candidate | None:
        if record.fault:
            self._reason = f"line {record.line} {record.fault}"
            return None
        if any(self._decoder.undecoded.search(cell) for cell in record.cells):
            self._undecoded = self._undecoded or record
        return self._search.consider(record.line, record.cells, order)

    def _is_over(self) -> bool:
        last = self._options.header_line or MAX_HEADER_LINE
        parsers = self._parsers or ()
        is_past = bool(parsers) and all(parser.line > last for parser in parsers)
        return is_past or self._size > _MAX_TEXT * (1 if last <= MAX_HEADER_LINE else 64)

    def _describe(self, record: Record) -> str:
        bad = next(cell for cell in record.cells if self._decoder.undecoded.search(cell))
        return f"line {record.line} {self._decoder.describe_undecoded(bad)}"


def _slices(pieces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield short pieces, and what is left of the piece that each was taken from."""
    for piece in pieces:
        for end in range(_SLICE, max(len(piece), 1) + _SLICE, _SLICE):
            yield piece[end - _SLICE : end], piece[end:]
