"""Rows of a table: a CSV file, or a sheet of a workbook."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tornado_members.bulk.csv_parser import MAX_COLUMNS, Record
from tornado_members.bulk.decoding import TextDecoder
from tornado_members.bulk.display import quoted
from tornado_members.bulk.header import CsvHeaderSearch, HeaderSearch
from tornado_members.bulk.mapping import ColumnMapping, parse_values, shown
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.bulk.totals import is_total
from tornado_members.errors import UnreadableFile
from tornado_members.model.member import MemberDraft

_BYTE_ORDER_MARK: Final = "\ufeff"


def read_csv(pieces: Iterable[bytes], options: FileOptions, info: FileInfo) -> Iterator[Row | None]:
    """Yield the rows of a CSV file. Raises UnreadableFile."""
    decoder = TextDecoder(options.encoding)
    texts = decoder.decode(pieces)
    for found in CsvHeaderSearch(options, decoder).find(texts):
        if found is None:
            yield None
            continue
        parser, header, records, rest = found
        info.encoding, info.delimiter = decoder.encoding, parser.delimiter
        reader = TableReader(header.mapping, options, info, header.line, decoder)
        yield from reader.read(records)
        yield from reader.read(parser.feed(rest))
        for text in texts:
            yield from reader.read(parser.feed(text))
            yield None
        yield from reader.read(parser.close())
        yield from reader.close()
        return


def read_sheet(
    records: Iterable[Record | None], options: FileOptions, info: FileInfo
) -> Iterator[Row | None]:
    """Yield the rows of a worksheet. Raises UnreadableFile."""
    search = HeaderSearch(options)
    reader: TableReader | None = None
    for record in records:
        if record is None:
            yield None
        elif reader:
            yield from reader.read([record])
        elif candidate := search.consider(record.line, record.cells):
            reader = TableReader(candidate.mapping, options, info, candidate.line, None)
    if reader is None:
        raise search.fail("the sheet is empty")
    yield from reader.close()


class TableReader:
    """Checks the records below a header."""

    def __init__(
        self,
        mapping: ColumnMapping,
        options: FileOptions,
        info: FileInfo,
        line: int,
        decoder: TextDecoder | None,
    ) -> None:
        """Raises UnreadableFile."""
        if len(mapping.header) > MAX_COLUMNS:
            raise UnreadableFile(f"the header has more than {MAX_COLUMNS:,} columns")
        if options.strict and mapping.ignored:
            raise UnreadableFile(f"not fields of a member: {shown(mapping.ignored)}")
        info.mapping, info.header_line = mapping, line
        self._mapping = mapping
        self._decoder = decoder
        self._header = [_heading(cell) for cell in mapping.header]
        self._first = self._header[0]
        named = [i for i, heading in enumerate(self._header) if heading]
        self._width = max(named, default=-1) + 1  # without blank headings at the end
        self._used = mapping.used
        self._names = {i for columns in mapping.sources["name"] for i in columns}
        self._fields = options.fields
        self._take_suspicious = options.take_suspicious
        self._held: Row | None = None  # a row with nothing but a name, in case it is the last
        self._has_full_rows = self._has_bare_rows = False

    def read(self, records: Iterable[Record]) -> Iterator[Row]:
        """Yield the rows of these records."""
        for record in records:
            if record.fault:
                detail = f"cannot be read as CSV: it {record.fault}"
                row = Row(record.line, (), Refusal.of_row("bad quoting", detail), raw=record.raw)
            elif self._is_blank(record.cells) or self._repeats_header(record.cells):
                continue
            else:
                row = self._check(record)
            if self._held:
                yield self._held
                self._held, self._has_bare_rows = None, True
            if not self._has_bare_rows and self._is_bare(record):
                self._held = row
            else:
                self._has_full_rows = True
                yield row

    def close(self) -> Iterator[Row]:
        """Yield the last row, if it was held back."""
        if self._held is None:
            return
        row = self._held
        is_suspicious = self._has_full_rows and not self._has_bare_rows
        if is_suspicious and not self._take_suspicious and isinstance(row.content, MemberDraft):
            detail = (
                "looks like a total and not like a member: it is the last row and the only one "
                "with nothing but a name (take_suspicious loads it)"
            )
            row = Row(row.line, row.cells, Refusal.of_row("suspicious", detail))
        yield row

    def _is_blank(self, cells: Sequence[str]) -> bool:
        if cells and cells[0] and not cells[0].isspace():
            return False
        return not any(cell and not cell.isspace() for cell in cells)

    def _repeats_header(self, cells: Sequence[str]) -> bool:
        """True if the record repeats the header, as in concatenated files."""
        if cells[0].strip() != self._first and not cells[0].startswith(_BYTE_ORDER_MARK):
            return False
        return [_heading(cell) for cell in cells] == self._header

    def _is_bare(self, record: Record) -> bool:
        """True if the row has nothing but a name, although the file has other columns."""
        cells = record.cells
        if len(cells) > 1 and cells[0].strip() and cells[1].strip():
            return False
        if record.fault or len(self._header) == 1:
            return False
        filled = [i for i, cell in enumerate(cells) if cell and not cell.isspace()]
        return len(filled) == 1 and filled[0] in self._names

    def _check(self, record: Record) -> Row:
        cells, width = record.cells, self._width
        if len(cells) != width and not self._fits(cells):
            detail = f"has {len(cells)} cells where the header has {width}"
            return Row(record.line, cells, Refusal.of_row("wrong number of cells", detail))
        if self._decoder and self._decoder.has_undecoded and (bad := self._find_undecoded(cells)):
            detail = self._decoder.describe_undecoded(bad)
            return Row(record.line, cells, Refusal.of_row("wrong encoding", detail))
        if record.cut and record.cut & self._used:
            detail = "has a cell that is too long for a member"
            return Row(record.line, cells, Refusal.of_row("too long", detail))
        if broken := record.broken & self._names:
            detail = f"has the error {quoted(cells[min(broken)])} as a name"
            return Row(record.line, cells, Refusal.of_row("error of a formula", detail))
        if not self._take_suspicious and is_total(cells, self._names, self._used):
            detail = "looks like a total and not like a member (take_suspicious loads it)"
            return Row(record.line, cells, Refusal.of_row("suspicious", detail))
        if record.broken:  # an optional field then has no value
            plain = ["" if i in record.broken else cell for i, cell in enumerate(cells)]
            values, unused = self._mapping.read(plain)
            unused |= self._errors_in(record)
        else:
            values, unused = self._mapping.read(cells)
        return Row(record.line, cells, parse_values(values, self._fields), unused=unused)

    def _errors_in(self, record: Record) -> dict[str, list[str]]:
        """Return the errors of formulas in the columns of each field."""
        found = {
            field: [record.cells[i] for columns in sources for i in columns if i in record.broken]
            for field, sources in self._mapping.sources.items()
        }
        return {field: errors for field, errors in found.items() if errors}

    def _fits(self, cells: Sequence[str]) -> bool:
        """True if a row has a cell for each column, and no text after them."""
        surplus = cells[self._width :]
        is_longer = len(cells) > self._width
        return is_longer and not any(cell and not cell.isspace() for cell in surplus)

    def _find_undecoded(self, cells: Sequence[str]) -> str | None:
        decoder = self._decoder
        if decoder is None:
            return None
        found = (cells[i] for i in self._used if not cells[i].isascii())
        return next((cell for cell in found if decoder.undecoded.search(cell)), None)


def _heading(cell: str) -> str:
    """Return a heading without the byte order marks that concatenated files have."""
    return cell.strip().lstrip(_BYTE_ORDER_MARK).strip()
