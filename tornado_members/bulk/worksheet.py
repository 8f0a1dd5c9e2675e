"""Reads the rows of a worksheet, and the shared texts that its cells refer to."""

import re
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from typing import Final

from tornado_members.bulk.csv_parser import MAX_COLUMNS, Record
from tornado_members.bulk.workbook_xml import parse_part
from tornado_members.errors import Overloaded, UnreadableFile

_MAX_TEXT: Final = 32_767  # characters of a cell, as Excel allows
_TEXT_OVERHEAD: Final = 16  # bytes of a row in the database
_MAX_ROWS: Final = 1_048_576  # as Excel allows
_REFERENCE: Final = re.compile(r"([A-Z]{1,3})[0-9]+")
_FLOAT: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?E[+-]?[0-9]{1,3}", re.IGNORECASE)


class SharedTexts:
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
        yield from parse_part(archive, path, self._start, self._end, self._add)

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


class Worksheet:
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
        for _ in parse_part(archive, path, self._start, self._end, self._add):
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
