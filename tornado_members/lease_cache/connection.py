"""One connection to a Memcached server, instead of aiomcache's pool of them.

A reply that breaks off, is too long or is malformed is an error at once. At the end of a stream,
aiomcache would wait for the rest of a line for ever.
"""

import asyncio
import re
from collections.abc import Sequence

import aiomcache
from aiomcache.pool import Connection

MAX_ITEM = 1024 * 1024  # bytes; Memcached's own default
_LONGEST_LINE = 2048  # bytes; a line of a reply holds a key and three numbers
_MOST_BUFFERED = 4 * MAX_ITEM
_VALUE = re.compile(rb"VALUE (?P<key>[!-~]{1,250}) (?P<flags>[0-9]{1,10}) (?P<size>[0-9]{1,8})\r\n")
_END = b"END\r\n"


class MemcachedConnection(asyncio.Protocol):
    """Sends commands and reads replies, for one command at a time.

    `client` is one of aiomcache's with this connection only, which serves as its pool, its reader
    and its writer.
    """

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.client = aiomcache.Client("")
        self.client._pool = self  # type: ignore[assignment]
        self.received = 0  # bytes in all
        self._buffer = bytearray()  # received bytes that were not consumed
        self._is_paused = False
        self._is_closed = False
        self._wanted: asyncio.Future[None] | None = None  # done when there are more bytes

    @classmethod
    async def open(cls, host: str, port: int) -> "MemcachedConnection":
        """Connect to a server."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, host, port)
        return connection

    async def acquire(self) -> Connection:
        """Return this connection to its client."""
        return Connection(self, self)  # type: ignore[arg-type]

    def release(self, connection: Connection) -> None:
        """Do nothing: MemcachedNode decides if the connection may be used again."""

    def is_clean(self) -> bool:
        """True if the connection is open and all received bytes were read."""
        return not (self._is_closed or self._transport.is_closing() or self._buffer)

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    async def drain(self) -> None:
        """Do nothing: a command is sent only after the reply to the last one was read."""

    async def read_values(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Read the reply to a `get` of these distinct keys, in one pass over what has arrived.

        A value with client flags is another program's, and treated as empty.
        """
        if not self._buffer:
            await self._more(_LONGEST_LINE)
        if self._buffer.endswith(_END):
            found = _values_in(bytes(self._buffer), keys)
            if found is not None:
                self._buffer.clear()
                return found
        values: dict[bytes, bytes] = {}
        for head, value in await self.read_items(_VALUE, _END, most=len(keys)):
            if head["key"] in values:
                raise ConnectionError("sent a value twice")
            values[head["key"]] = value if head["flags"] == b"0" else b""
        if not values.keys() <= {*keys}:
            raise ConnectionError("answered another question")
        return values

    async def read_items(
        self, head: re.Pattern[bytes], end: bytes, *, most: int
    ) -> list[tuple[re.Match[bytes], bytes]]:
        """Read items up to the line `end`: the match of each head, and the value that follows it.

        The group `size` of a head is the size of its value in bytes.
        """
        items: list[tuple[re.Match[bytes], bytes]] = []
        while True:
            data, at = bytes(self._buffer), 0
            while match := head.match(data, at):
                start = match.end()
                at_end = start + _checked_size(int(match["size"]))
                if len(data) < at_end + 2:
                    break
                if data[at_end : at_end + 2] != b"\r\n":
                    raise ConnectionError("sent a value of another length than it announced")
                if len(items) >= most:
                    raise ConnectionError("sent more values than there are keys")
                items.append((match, data[start:at_end]))
                at = at_end + 2
            del self._buffer[:at]
            if match is None and self._buffer.find(b"\n", 0, _LONGEST_LINE) >= 0:
                line = await self.readline()
                if line == end:
                    return items
                raise unexpected(line)
            await self._more(_LONGEST_LINE if match is None else _MOST_BUFFERED)

    async def read_lines(self, count: int) -> list[bytes]:
        """Read this many lines, without their ends."""
        lines: list[bytes] = []
        while len(lines) < count:
            *whole, rest = bytes(self._buffer).split(b"\r\n", count - len(lines))
            lines += whole
            self._buffer[:] = rest
            if len(lines) < count:
                await self._more(_LONGEST_LINE)
        return lines

    async def readline(self) -> bytes:
        """Read a line with its end."""
        while (end := self._buffer.find(b"\n", 0, _LONGEST_LINE)) < 0:
            await self._more(_LONGEST_LINE)
        line = self._take(end + 1)
        if not line.endswith(b"\r\n"):
            raise ConnectionError("is not a Memcached")
        return line

    async def readexactly(self, n: int) -> bytes:
        """Read a value with the line end that follows it."""
        _checked_size(n - 2)
        while len(self._buffer) < n:
            await self._more(_MOST_BUFFERED)
        block = self._take(n)
        if not block.endswith(b"\r\n"):
            raise ConnectionError("sent a value of another length than it announced")
        return block

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _more(self, limit: int) -> None:
        """Wait for more bytes, unless more than `limit` are there already."""
        if len(self._buffer) >= limit:
            raise ConnectionError("is not a Memcached")
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if self._is_closed:
            raise ConnectionError("broke off")
        self._wanted = asyncio.get_running_loop().create_future()
        try:
            await self._wanted
        finally:
            self._wanted = None

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        # A batch of large values arrives faster than it is read: uvloop receives megabytes in one
        # turn of the event loop.
        if len(self._buffer) >= _MOST_BUFFERED and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)


def _values_in(reply: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """Parse a complete reply, whose values are in the order of the keys; None if that fails.

    It fails if a value contains a line end or has client flags, and for any malformed reply.
    """
    parts = reply.split(b"\r\n")  # alternately a head and a value; then the end
    values: dict[bytes, bytes] = {}
    place, end = 0, len(parts) - 2
    for key in keys:
        if place < end and parts[place] == b"VALUE %b 0 %d" % (key, len(parts[place + 1])):
            values[key] = parts[place + 1]
            place += 2
    return values if place == end and parts[end:] == [b"END", b""] else None


def unexpected(line: bytes) -> ConnectionError:
    """Return the error of a line that is no reply to the command."""
    if line.split()[:1] == [b"ERROR"]:
        return ConnectionError("knows no meta commands; Memcached 1.6 or later is required")
    return ConnectionError("answered another question")


def _checked_size(size: int) -> int:
    if not 0 <= size <= MAX_ITEM:
        raise ConnectionError(f"announced a value of {size} bytes")
    return size
