"""Reads the rows of a file in any format, which it detects from the content."""

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import IO, Final

from tornado_members.bulk.compression import gunzip
from tornado_members.bulk.json_rows import read_array, read_ndjson
from tornado_members.bulk.ldif import read_ldif
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Row
from tornado_members.bulk.table import read_csv, read_sheet
from tornado_members.bulk.vcard import read_vcards
from tornado_members.errors import Overloaded, UnreadableFile

_HEAD: Final = 1024  # bytes that are enough to recognise a format
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_MARK: Final = rb"\A(?:\xef\xbb\xbf)?\s*"
_TEXT_FORMATS: Final = (
    (re.compile(_MARK + rb"BEGIN:VCARD\b", re.IGNORECASE), "vCard"),
    (re.compile(_MARK + rb"(?:#[^\n]*\n\s*)*(?:version:\s*\d|dn::?\s)", re.IGNORECASE), "LDIF"),
    (re.compile(_MARK + rb"\[\s*(?:\{|\]|\Z)"), "JSON"),
    (re.compile(_MARK + rb'\{[ \t]*"'), "NDJSON"),
)
# Other formats that people send, and the remedy.
_REFUSED: Final = (
    (rb"\A%PDF-", "a PDF document", "export the table as CSV"),
    (rb"\A\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel file (.xls)", "save it as .xlsx or CSV"),
    (rb"\ASQLite format 3\0", "a database", "export the table as CSV"),
    (rb"\A(?:7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd)", "an archive", "unpack it first"),
    (rb"\A(?:\x89PNG|\xff\xd8\xff|GIF8)", "an image", "export the table as CSV"),
    (
        _MARK + rb"<(?:!doctype|html|head|body|table|meta)\b",
        "a web page",
        "save it as .xlsx or CSV",
    ),
    (_MARK + rb"<\?xml|" + _MARK + rb"<[a-z:]+[ />]", "an XML file", "save it as .xlsx or CSV"),
    (_MARK + rb"\{\s*(?:\n|\Z)", "one JSON object over several lines", "send an array of members"),
    (_MARK + rb"\{\\rtf", "a text document", "save the table as CSV"),
)
_ARRAY_OF_OTHERS: Final = re.compile(_MARK + rb'\[\s*(?:\[|"(?:[^"\\]|\\.)*"\s*[,\]])')
_REFUSALS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), what, remedy) for pattern, what, remedy in _REFUSED
)


def read_members(
    pieces: Iterable[bytes],
    options: FileOptions,
    info: FileInfo,
    *,
    limit: int | None = None,
    reserve: Callable[[int], bool] = lambda _: True,
) -> Iterator[Row | None]:
    """Yield the rows of a file; None means "nothing yet", after a bounded amount of work.

    `limit` is the number of bytes that a compressed file may unpack to, `reserve` grants bytes of
    temporary files. Raises UnreadableFile, and Overloaded without space for temporary files.
    """
    for head, rest in _read_head(pieces):
        if rest is None:
            yield None
        elif head.startswith(_GZIP):
            unpacked = gunzip(rest, limit)
            for inner, inner_rest in _read_head(unpacked):
                if inner_rest is None:
                    yield None
                elif inner.startswith(_GZIP):
                    raise UnreadableFile("the file is compressed twice: unpack it first")
                else:
                    yield from _read(inner, inner_rest, options, info, reserve)
        else:
            yield from _read(head, rest, options, info, reserve)


def _read(
    head: bytes,
    pieces: Iterable[bytes],
    options: FileOptions,
    info: FileInfo,
    reserve: Callable[[int], bool],
) -> Iterator[Row | None]:
    if head.startswith(_ZIP):
        # Only workbooks need its libraries.
        from tornado_members.bulk.workbook import read_workbook  # noqa: PLC0415  # see above

        info.format = "Excel"
        with tempfile.TemporaryFile() as file:
            yield from _store(pieces, file, reserve)
            yield from read_sheet(read_workbook(file, options.sheet, reserve), options, info)
        return
    for pattern, name in _TEXT_FORMATS:
        if pattern.search(head):
            info.format = name
            readers = {
                "vCard": read_vcards,
                "LDIF": read_ldif,
                "JSON": read_array,
                "NDJSON": read_ndjson,
            }
            yield from readers[name](pieces, options, info)
            return
    for refused, what, remedy in _REFUSALS:
        if refused.search(head):
            raise UnreadableFile(f"the file is {what}: {remedy}")
    if options.default_format == "ndjson":
        info.format = "NDJSON"
        yield from read_ndjson(pieces, options, info)
    elif _ARRAY_OF_OTHERS.search(head):
        raise UnreadableFile("the file is a JSON array of something other than objects")
    else:
        yield from read_csv(pieces, options, info)


def _read_head(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, Iterable[bytes] | None]]:
    """Yield (b"", None) until the beginning has arrived, then it, and all pieces including it."""
    head = b""
    iterator = iter(pieces)
    for piece in iterator:
        head += piece
        if len(head) >= _HEAD or b"\n" in head.lstrip():
            break
        yield b"", None
    yield head[:_HEAD], chain([head], iterator)


def _store(
    pieces: Iterable[bytes], file: IO[bytes], reserve: Callable[[int], bool]
) -> Iterator[None]:
    """Write a file that cannot be read from its beginning to a temporary one."""
    for piece in pieces:
        if piece and not reserve(len(piece)):
            raise Overloaded
        file.write(piece)
        yield None
