"""Reads worksheets of Excel workbooks (ECMA-376, .xlsx) in bounded memory.

Shared texts are kept in a temporary database.
"""

import sqlite3
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import IO, Final

from tornado_members.bulk.csv_parser import Record
from tornado_members.bulk.workbook_xml import parse_part
from tornado_members.bulk.worksheet import SharedTexts, Worksheet
from tornado_members.errors import UnreadableFile

_MAX_INDEX: Final = 256 * 1024  # bytes of the parts that are read at once, without a pause
_MAX_PARTS: Final = 2000
_END_OF_DIRECTORY: Final = b"PK\x05\x06"
_LONGEST_END: Final = 22 + 65535  # bytes, with the comment
_MAX_SHEETS: Final = 1000
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
                yield from SharedTexts(texts, reserve).read(archive, "xl/sharedStrings.xml")
            yield from Worksheet(texts).read(archive, path)
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

    for _ in parse_part(archive, "xl/workbook.xml", note_sheet, limit=_MAX_INDEX):
        pass
    if _RELATIONS in archive.namelist():
        for _ in parse_part(archive, _RELATIONS, note_target, limit=_MAX_INDEX):
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
