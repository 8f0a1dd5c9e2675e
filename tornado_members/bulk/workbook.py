"""Worksheets of Excel workbooks (ECMA-376, .xlsx), read in bounded memory.

The XML is parsed in pieces by expat. Shared texts are kept in a temporary database. Declarations of
entities are refused, and so are parts that unpack to more than a limit.
"""

import re
import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import IO, Final
from xml.parsers import expat

from tornado_members.bulk.csv_parser import MAX_COLUMNS, Record
from tornado_members.errors import Overloaded, UnreadableFile

_PIECE: Final = 8 * 1024  # bytes of XML that are parsed before control is returned
_MAX_PART: Final = 256 * 1024 * 1024  # bytes of a part when it is unpacked
_MAX_INDEX: Final = 256 * 1024  # bytes of the parts that are read at once, without a pause
_MAX_PARTS: Final = 2000
_END_OF_DIRECTORY: Final = b"PK\x05\x06"
_LONGEST_END: Final = 22 + 65535  # bytes, with the comment
_LONGEST_TAG: Final = 64 * 1024  # bytes
_MAX_SHEETS: Final = 1000
_MAX_TEXT: Final = 32_767  # characters of a cell, as Excel allows
_TEXT_OVERHEAD: Final = 16  # bytes of a row in the database
_REFERENCE: Final = re.compile(r"([A-Z]{1,3})[0-9]+")
_MAX_ROWS: Final = 1_048_576  # as Excel allows
# Sheets shrink to a twentieth or so; a bomb is a thousand times as large as its file.
_MAX_RATIO: Final = 200
_ALWAYS_ALLOWED: Final = 16 * 1024 * 1024  # bytes of a part when it is unpacked
_FLOAT: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?E[+-]?[0-9]{1,3}", re.IGNORECASE)
_RELATIONS: Final = "xl/_rels/workbook.xml.rels"


def read_workbook(
    file: IO[bytes], sheet: str | None, reserve: Callable[[int], bool]
) -> Iterator[Record | None]:
    """Yield the rows of a worksheet, the first visible one by default; None after a piece of work.

    `reserve` grants bytes of temporary files. Raises UnreadableFile.
    """
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive, closing(sqlite3.connect("")) as texts:
            texts.execute("PRAGMA journal_mode = OFF")
            texts.execute("CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT)")
            path = _find_sheet(archive, sheet)
            if "xl/sharedStrings.xml" in archive.namelist():
                yield from _SharedTexts(texts, reserve).read(archive, "xl/sharedStrings.xml")
            yield from _Sheet(texts).read(archive, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnreadableFile(f"the workbook is damaged or encrypted: {error}") from None


def _check_directory(file: IO[bytes]) -> None:
    """Raise UnreadableFile for an archive with a large directory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _LONGEST_END))
    tail = file.read()
    at = tail.rfind(_END_OF_DIRECTORY)
    end = tail[at : at + 22] if at >= 0 else b""
    if len(end) < 22:
        raise UnreadableFile("the workbook is not complete")
    parts, directory = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if parts > _MAX_PARTS or directory > _MAX_INDEX:
        raise UnreadableFile("the workbook has too many parts")


def _find_sheet(archive: zipfile.ZipFile, wanted: str | None) -> str:
    """Return the path of the part that holds a sheet, by its name or number."""
    if "xl/workbook.xml" not in archive.namelist():
        raise UnreadableFile(
            "the file is a ZIP archive and not an Excel workbook: save the table as .xlsx or CSV"
        )
    sheets: list[tuple[str, str]] = []  # name and relation
    visible: list[int] = []  # positions of sheets that Excel shows
    targets: dict[str, str] = {}

    def note_sheet(tag: str, attributes: dict[str, str]) -> None:
        if tag == "sheet" and len(sheets) < _MAX_SHEETS:
            if attributes.get("state", "visible") == "visible":
                visible.append(len(sheets))
            sheets.append((attributes.get("name", ""), attributes.get("id", "")))

    def note_target(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and len(targets) < _MAX_PARTS:
            targets[attributes.get("Id", "")] = attributes.get("Target", "")

    for _ in _parse(archive, "xl/workbook.xml", note_sheet, limit=_MAX_INDEX):
        pass
    if _RELATIONS in archive.namelist():
        for _ in _parse(archive, _RELATIONS, note_target, limit=_MAX_INDEX):
            pass
    names = [name for name, _ in sheets]
    position = visible[0] if visible else 0
    if wanted is not None:
        by_number = int(wanted[:6]) - 1 if wanted.isdecimal() and wanted not in names else -1
        position = names.index(wanted) if wanted in names else by_number
    if not 0 <= position < len(sheets):
        listed = ", ".join(repr(name[:40]) for name in names[:20]) or "none"
        missing = f"no sheet {wanted[:40]!r}" if wanted is not None else "no sheet"
        raise UnreadableFile(f"the workbook has {missing}: its sheets are {listed}")
    target = targets.get(sheets[position][1], f"worksheets/sheet{position + 1}.xml")
    path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
    if path not in archive.namelist():
        raise UnreadableFile("the workbook has no such sheet: the file is damaged")
    return path


def _parse(
    archive: zipfile.ZipFile,
    path: str,
    on_start: Callable[[str, dict[str, str]], None],
    on_end: Callable[[str], None] | None = None,
    on_text: Callable[[str], None] | None = None,
    *,
    limit: int = _MAX_PART,
) -> Iterator[None]:
    """Parse a part in pieces; the handlers receive names without prefixes."""
    part_info = archive.getinfo(path)
    if part_info.file_size > limit:
        raise UnreadableFile(f"a part of the workbook unpacks to more than {limit:,} bytes")
    if part_info.file_size > max(_ALWAYS_ALLOWED, _MAX_RATIO * part_info.compress_size):
        raise UnreadableFile("a part of the workbook unpacks to more than 200 times its size")
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise UnreadableFile("the workbook declares XML entities, which Excel never does")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = lambda name, attributes: on_start(
        _local(name), {_local(key): value for key, value in attributes.items()}
    )
    if on_end:
        parser.EndElementHandler = lambda name: on_end(_local(name))
    if on_text:
        parser.CharacterDataHandler = on_text
    left, fed = min(limit, part_info.file_size), 0
    with archive.open(path) as part:
        try:
            while data := part.read(_PIECE):
                left -= len(data)
                if left < 0:
                    raise UnreadableFile("the workbook is damaged")
                parser.Parse(data, False)
                fed += len(data)
                if fed - parser.CurrentByteIndex > _LONGEST_TAG:  # expat parses it with each piece
                    raise UnreadableFile("the workbook is damaged: a tag is too long")
                yield None
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise UnreadableFile(f"the workbook is damaged: {error}") from None


def _local(name: str) -> str:
    return name.rpartition(":")[2]


class _SharedTexts:
    """Stores the texts that cells refer to by number."""

    def __init__(self, texts: sqlite3.Connection, reserve: Callable[[int], bool]) -> None:
        self._texts = texts
        self._reserve = reserve
        self._count = 0
        self._parts: list[str] | None = None
        self._size = 0
        self._is_text = False
        self._phonetic = 0

    def read(self, archive: zipfile.ZipFile, path: str) -> Iterator[None]:
        """Parse the part."""
        yield from _parse(archive, path, self._start, self._end, self._add)

    def _start(self, tag: str, _: dict[str, str]) -> None:
        if tag == "si":
            self._parts, self._size = [], 0
        elif tag == "rPh":  # the pronunciation of a text
            self._phonetic += 1
        self._is_text = tag == "t" and not self._phonetic

    def _end(self, tag: str) -> None:
        self._is_text = False
        if tag == "rPh":
            self._phonetic -= 1
        elif tag == "si" and self._parts is not None:
            text = "".join(self._parts)
            if not self._reserve(len(text.encode()) + _TEXT_OVERHEAD):
                raise Overloaded
            self._texts.execute("INSERT INTO texts VALUES (?, ?)", (self._count, text))
            self._count += 1
            self._parts = None

    def _add(self, text: str) -> None:
        if self._is_text and self._parts is not None and self._size < _MAX_TEXT:
            self._parts.append(text)
            self._size += len(text)


class _Sheet:
    """Turns the rows of a worksheet into records."""

    def __init__(self, texts: sqlite3.Connection) -> None:
        self._texts = texts
        self._line = self._rows = 0
        self._broken: set[int] = set()  # columns of cells whose formula has failed
        self._cells: dict[int, str] = {}
        self._column = -1
        self._type = ""
        self._parts: list[str] = []
        self._size = 0
        self._is_value = False
        self._phonetic = 0
        self._ready: list[Record] = []
        self._width = 0

    def read(self, archive: zipfile.ZipFile, path: str) -> Iterator[Record | None]:
        """Parse the part."""
        for _ in _parse(archive, path, self._start, self._end, self._add):
            yield from self._ready
            self._ready.clear()
            yield None
        yield from self._ready

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "row":
            self._rows += 1
            if self._rows > _MAX_ROWS:
                raise UnreadableFile(f"the sheet has more than {_MAX_ROWS:,} rows")
            number = attributes.get("r", "")
            self._line = int(number[:9]) if number.isdecimal() else self._line + 1
            self._cells, self._column = {}, -1
            self._broken.clear()
        elif tag == "c":
            position = _column(attributes.get("r", ""))
            self._column = self._column + 1 if position is None else position
            self._type = attributes.get("t", "n")
            self._parts, self._size = [], 0
        elif tag == "rPh":
            self._phonetic += 1
        self._is_value = tag in ("v", "t") and not self._phonetic

    def _end(self, tag: str) -> None:
        self._is_value = False
        if tag == "rPh":
            self._phonetic -= 1
        elif tag == "c" and self._column <= MAX_COLUMNS:
            self._cells[self._column] = self._value("".join(self._parts))
            if self._type == "e":  # an error, such as #N/A
                self._broken.add(self._column)
        elif tag == "row":
            self._ready.append(self._record())

    def _add(self, text: str) -> None:
        if self._is_value and self._size < _MAX_TEXT:
            self._parts.append(text)
            self._size += len(text)

    def _record(self) -> Record:
        filled = [column for column, text in self._cells.items() if text]
        if not filled:  # six bytes of XML, which must not cost as much as a wide row
            return Record(self._line, [])
        if max(filled) >= MAX_COLUMNS:
            return Record(self._line, [], f"has more than {MAX_COLUMNS:,} cells")
        # Cells at the end of a row are not stored if they are empty.
        self._width = max(self._width, max(filled) + 1)
        cells = [""] * self._width
        for column in filled:
            cells[column] = self._cells[column]
        return Record(self._line, cells, broken=frozenset(self._broken))

    def _value(self, text: str) -> str:
        match self._type:
            case "s":
                query = "SELECT text FROM texts WHERE id = ?"
                number = int(text[:9]) if text.strip().isdecimal() else -1
                found = self._texts.execute(query, (number,)).fetchone()
                if not found and text:
                    raise UnreadableFile("the workbook is damaged: a text is missing")
                return str(found[0]) if found else ""
            case "n":
                return _plain_number(text.strip())
            case "b":
                return "TRUE" if text.strip() == "1" else "FALSE" if text.strip() == "0" else text
            case _:
                return text


def _column(reference: str) -> int | None:
    """Return the position of a column: 27 for "AB7"; None without a reference."""
    if not reference:
        return None
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise UnreadableFile("the workbook is damaged: a cell has no valid reference")
    position = 0
    for letter in found[1]:
        position = position * 26 + ord(letter) - ord("A") + 1
    return position - 1


def _plain_number(text: str) -> str:
    """Return a number without an exponent, with which Excel stores telephone numbers."""
    if not _FLOAT.fullmatch(text):
        return text.removesuffix(".0")
    value = float(text)
    return str(int(value)) if value.is_integer() and abs(value) < 10**15 else text
