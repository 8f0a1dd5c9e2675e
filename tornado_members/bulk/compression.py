"""Files compressed with gzip (RFC 1952), unpacked in pieces."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from tornado_members.bulk.sources import PIECE
from tornado_members.errors import UnreadableFile

_GZIP: Final = 31  # window bits for a header and trailer of gzip
# Tables shrink to a twentieth or so; a bomb is a thousand times as large as its file.
_MAX_RATIO: Final = 200
_ALWAYS_ALLOWED: Final = 64 * 1024 * 1024  # bytes


def gunzip(pieces: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    """Yield the unpacked bytes, at most `limit` of them. Raises UnreadableFile."""
    unpacker = zlib.decompressobj(_GZIP)
    packed = unpacked = 0
    for piece in pieces:
        packed += len(piece)
        left = piece
        while left:
            if unpacker.eof:  # concatenated gzip files are one file (RFC 1952 §2.2)
                unpacker = zlib.decompressobj(_GZIP)
            try:
                data = unpacker.decompress(left, PIECE)
            except zlib.error as error:
                raise UnreadableFile(f"the compressed file is damaged: {error}") from None
            unpacked += len(data)
            if limit is not None and unpacked > limit:
                raise UnreadableFile(f"the file unpacks to more than {limit:,} bytes")
            if unpacked > max(_ALWAYS_ALLOWED, _MAX_RATIO * packed):
                raise UnreadableFile("the file unpacks to more than 200 times its size")
            yield data
            left = unpacker.unconsumed_tail or unpacker.unused_data.lstrip(b"\0")
        yield b""
    if not unpacker.eof:
        raise UnreadableFile("the compressed file is not complete")
