"""The bytes of a file: pieces that arrive, or a stream that can be read.

Each format is a chain of generators, from pieces of bytes through pieces of text to rows. An empty
piece, or None instead of a row, means "nothing yet": the generator returns control to its caller
after a bounded amount of work, so that a server can serve others meanwhile.
"""

from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

PIECE = 4 * 1024  # bytes: at most this much is processed before control is returned
_READ = 64 * 1024  # bytes that are read from a stream at once


class ByteQueue:
    """Bytes that arrive one piece after another; iterating yields b"" while none are available."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._is_closed = False
        self.is_starved = False  # True if the last iteration found no bytes

    def push(self, data: bytes) -> None:
        """Add bytes."""
        self._pieces.extend(data[start : start + PIECE] for start in range(0, len(data), PIECE))
        self.is_starved = False

    def close(self) -> None:
        """Declare that no more bytes will come."""
        self._is_closed = True
        self.is_starved = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            if self._pieces:
                yield self._pieces.popleft()
            elif self._is_closed:
                return
            else:
                self.is_starved = True
                yield b""


def read_stream(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of a stream."""
    while piece := stream.read(_READ):
        yield piece
