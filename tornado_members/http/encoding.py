"""Compression of responses by the Accept-Encoding header (RFC 9110 §12.5.3)."""

import gzip
import re
import zlib

# Smaller bodies fit into one packet anyway.
_MIN_BYTES = 1024
# Shrinks a page of 1,000 members to a fifth in 2 ms; level 6 takes 10 ms for a tenth more.
_LEVEL = 3
_CODING = re.compile(
    r"\s*([\w!#$%&'*+.^`|~-]+)\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?",
    re.IGNORECASE,
)


def accepts_gzip(header: str) -> bool:
    """True if an Accept-Encoding header accepts gzip; malformed elements are ignored."""
    named: float | None = None
    any_other = 0.0
    for part in header.split(","):
        found = _CODING.fullmatch(part)
        if not found:
            continue
        weight = float(found[2] or 1)
        if found[1].lower() in ("gzip", "x-gzip"):
            named = max(named or 0.0, weight)
        elif found[1] == "*":
            any_other = weight
    return (any_other if named is None else named) > 0


def compressed(body: bytes) -> bytes | None:
    """Return a body as gzip; None if it is too small to benefit."""
    return gzip.compress(body, _LEVEL, mtime=0) if len(body) >= _MIN_BYTES else None


class GzipStream:
    """Compresses a stream; each piece can be decompressed as soon as it arrives."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_LEVEL, wbits=31)  # 31: as gzip (RFC 1952)

    def compress(self, piece: bytes) -> bytes:
        """Return the next piece, compressed."""
        return self._compressor.compress(piece) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """Return the trailer, which shows the reader that the stream is complete."""
        return self._compressor.flush()
