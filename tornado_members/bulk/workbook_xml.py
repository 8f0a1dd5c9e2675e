"""Parses the XML of workbooks in pieces, in bounded memory.

Declarations of entities are refused, and so are parts that unpack to more than a limit.
"""

import zipfile
from collections.abc import Callable, Iterator
from typing import Final
from xml.parsers import expat

from tornado_members.errors import UnreadableFile

_PIECE: Final = 8 * 1024  # bytes of XML that are parsed before control is returned
_MAX_PART: Final = 256 * 1024 * 1024  # bytes of a part when it is unpacked
_LONGEST_TAG: Final = 64 * 1024  # bytes
# Sheets shrink to a twentieth or so; a bomb is a thousand times as large as its file.
_MAX_RATIO: Final = 200
_ALWAYS_ALLOWED: Final = 16 * 1024 * 1024  # bytes of a part when it is unpacked


def parse_part(
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
