"""One connection to a Memcached server, instead of aiomcache's pool of them."""

import asyncio
from collections.abc import Iterable
from typing import SupportsIndex

import aiomcache
from aiomcache.pool import Connection

MAX_ITEM = 1024 * 1024  # bytes; Memcached's own default
_LONGEST_LINE = 2048  # bytes; a line of a reply holds a key and three numbers


async def _nothing_of_ours(_value: bytes, _flags: int) -> bytes:
    """Treat a value with client flags, which another program stored, as empty."""
    return b""


class MemcachedConnection:
    """A client of aiomcache's with this connection only."""

    def __init__(self, reader: "_ReplyReader", writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = Connection(reader, writer)
        self.client = aiomcache.Client("")
        self.client._get_flag_handler = _nothing_of_ours
        self.client._pool = self  # type: ignore[assignment]

    @classmethod
    async def open(cls, host: str, port: int) -> "MemcachedConnection":
        loop = asyncio.get_running_loop()
        reader = _ReplyReader(limit=MAX_ITEM, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, host, port)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def acquire(self) -> Connection:
        return self._connection

    def release(self, connection: Connection) -> None:
        """Do nothing: MemcachedNode decides if the connection may be used again."""

    def is_clean(self) -> bool:
        """True if the connection is open and all received bytes were read."""
        reader = self._reader
        gone = reader.at_eof() or reader.exception() is not None or self._writer.is_closing()
        return not gone and reader.unread == 0

    def abort(self) -> None:
        self._writer.transport.abort()


class _ReplyReader(asyncio.StreamReader):
    """A reader that raises on a reply that breaks off or is not framed as it should be.

    StreamReader.readline returns b"" at the end of a stream, at once and for ever, and aiomcache
    asks again until a line is complete: the loop would never run anything else again.
    """

    unread = 0

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        received = bytes(data)
        self.unread += len(received)
        super().feed_data(received)

    async def readline(self) -> bytes:
        line = await super().readline()
        self.unread -= len(line)
        if not line.endswith(b"\r\n") or len(line) > _LONGEST_LINE:
            raise ConnectionError(
                "broke off" if len(line) <= _LONGEST_LINE else "is not a Memcached"
            )
        return line

    async def readexactly(self, n: int) -> bytes:
        if not 2 <= n <= MAX_ITEM + 2:
            raise ConnectionError(f"announced a value of {n - 2} bytes")
        block = await super().readexactly(n)
        self.unread -= n
        if not block.endswith(b"\r\n"):
            raise ConnectionError("sent a value of another length than it announced")
        return block
