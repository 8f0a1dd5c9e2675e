"""The file of refused rows, which can be corrected and loaded again."""

import codecs
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

from tornado_members.bulk.formula_cells import defuse
from tornado_members.bulk.headings import recognise
from tornado_members.bulk.mapping import ColumnMapping
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal, Row

# They come first, so that a row with too few or too many cells is refused until it is corrected.
_OWN_COLUMNS: Final = ("line", "reason")
# The cells of rows of formats without columns, such as vCards.
_CONTACT_FIELDS: Final = ("name", "email", "phone")
_PARTS_OF_NAME: Final = {
    2: ("first name", "last name"),
    3: ("first name", "middle name", "last name"),
}


class RejectedRows:
    """The header and the cells of a file's refused rows, for the rejects file.

    Headings that the caller assigned with options are replaced by those of the fields, so that the
    file means the same without these options. Cells that a spreadsheet would execute are defused.
    """

    def __init__(self, info: FileInfo, options: FileOptions) -> None:
        """The header of the source must be known, unless its format has none."""
        mapping = info.mapping
        header = _portable_header(mapping, options) if mapping else [*_CONTACT_FIELDS]
        # A rejects file that is loaded again already has the columns of the line and the reason.
        self._skipped = 2 if tuple(header[:2]) == _OWN_COLUMNS else 0
        self._header = header[self._skipped :]

    @property
    def header(self) -> list[str]:
        """The headings, with those of the line and the reason before them."""
        return [*_OWN_COLUMNS, *map(defuse, self._header)]

    def cells(self, row: Row) -> list[str]:
        """Return the cells of a row, without its line and the reason."""
        if row.raw is not None:  # after the last column, so that it cannot be loaded unchanged
            return [*[""] * len(self._header), defuse(row.raw)]
        return [*map(defuse, row.cells[self._skipped :])]


class RejectsFile:
    """Writes refused rows to a file with the delimiter and the encoding of their source."""

    def __init__(self, path: Path, info: FileInfo, options: FileOptions) -> None:
        """The file must not exist; it is created with the first row."""
        self.path = path
        self._info = info
        self._options = options
        self._stream: TextIO | None = None
        self._rows: RejectedRows | None = None

    @property
    def exists(self) -> bool:
        """True once a row was written."""
        return self._stream is not None

    @property
    def encoding(self) -> str:
        """The encoding of the source, or UTF-8 with a byte order mark instead of UTF-16 and 32."""
        is_wide = self._info.encoding.startswith(("utf-16", "utf-32"))
        return "utf-8-sig" if is_wide else self._info.encoding

    def write(self, row: Row, refusal: Refusal) -> None:
        """Write a row, with its line and the reason before its cells."""
        stream = self._stream or self._open()
        reason = refusal.reason.encode(self.encoding, "backslashreplace").decode(self.encoding)
        cells = self._rows.cells(row) if self._rows else []
        self._write_row(stream, [str(row.line), reason, *cells])

    def close(self) -> None:
        """Close the file."""
        if self._stream:
            self._stream.close()

    def _open(self) -> TextIO:
        self._rows = RejectedRows(self._info, self._options)
        self._stream = self.path.open("x", encoding=self.encoding, errors=_ERRORS, newline="")
        self._write_row(self._stream, self._rows.header)
        return self._stream

    def _write_row(self, stream: TextIO, cells: Sequence[str]) -> None:
        csv.writer(stream, delimiter=self._info.delimiter).writerow(cells)


def _encode_others(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode a character that the encoding of the file lacks.

    Bytes that could not be decoded are written as they were read (PEP 383). Other characters are
    escaped: JSON and LDIF can contain some that the encoding lacks, and lone surrogates.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return character.encode("ascii", "backslashreplace").decode(), error.start + 1


_ERRORS: Final = "tornado_members.rejects"
codecs.register_error(_ERRORS, _encode_others)


def _portable_header(mapping: ColumnMapping, options: FileOptions) -> list[str]:
    """Return headings that are recognised without options."""
    header = list(mapping.header)
    assigned = {field for field, _ in options.columns}
    for field in assigned & mapping.sources.keys():
        columns = mapping.sources[field][0]
        names = _PARTS_OF_NAME.get(len(columns), (field,) * len(columns))
        for column, name in zip(columns, names, strict=True):
            header[column] = name
    if assigned:
        used = mapping.used
        for i, heading in enumerate(header):
            if i not in used and recognise(heading):
                header[i] = f"unused {heading}"
    return header
