"""Memcached commands that are simpler than those of the lease protocol.

`set`, `delete` and `version` are those of aiomcache, on a connection of our own
(docs/decisions/aiomcache.md).
"""

import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import aiomcache
from aiomcache.pool import Connection

from tornado_members.lease_cache.commands import (
    REFUSAL,
    Command,
    checked,
    decode_put,
    take_line,
    unexpected,
)

SendOneLine = Callable[["OneLine"], Awaitable[bytes]]

_VERSION = b"VERSION "
_SIZE_OF_NUMBER = re.compile(rb"VA ([0-9]{1,2}) ?")
_NOT_A_NUMBER = b"CLIENT_ERROR cannot increment or decrement non-numeric value"


class Increments(Command[dict[bytes, int]]):
    """Adds to numbers; the results are the sums. A missing number starts at 0.

    The result has no sum where the server refuses: the value is not a number, or memory is full.
    """

    def __init__(self, amounts: Mapping[bytes, int], ttl: int) -> None:
        super().__init__()
        self.result = {}
        self._unanswered = deque(checked(key, ttl) for key in amounts)
        self.request = b"".join(
            b"ma %b N%d J%d D%d v\r\n" % (key, ttl, amount, amount)
            for key, amount in amounts.items()
        )

    def read(self, data: bytes, at: int) -> int:
        while self._unanswered:
            line, start = take_line(data, at)
            if line is None:
                return at
            if line == _NOT_A_NUMBER or REFUSAL.fullmatch(line):
                self._unanswered.popleft()
                at = start
                continue
            size = _SIZE_OF_NUMBER.fullmatch(line)
            if size is None:
                raise unexpected(line)
            number, end = take_line(data, start)
            if number is None:
                return at
            if len(number) != int(size[1]) or not number.isdigit():
                raise unexpected(number)
            self.result[self._unanswered.popleft()], at = int(number), end
        self.is_complete = True
        return at


class OneLine(Command[bytes]):
    """A command with a reply of one line, which is the result."""

    def __init__(self, request: bytes) -> None:
        super().__init__()
        self.request = request

    def read(self, data: bytes, at: int) -> int:
        line, at = take_line(data, at)
        if line is not None:
            if not line.startswith(_VERSION):
                decode_put(
                    line
                )  # raises ConnectionError for anything but a reply to such a command
            self.result = line
            self.is_complete = True
        return at


class AiomcacheStream:
    """The reader and the writer of a command of aiomcache, whose reply has one line.

    The command is sent on a connection that it shares with others.
    """

    _reply: Awaitable[bytes]

    def __init__(self, send: SendOneLine) -> None:
        self._send = send

    def write(self, request: bytes) -> None:
        """Send a request."""
        self._reply = self._send(OneLine(request))

    async def drain(self) -> None:
        """Do nothing: requests have no back pressure."""

    async def readline(self) -> bytes:
        """Return the reply. Raises NodeUnavailable."""
        return await self._reply + b"\r\n"

    def set_exception(self, error: Exception) -> None:
        """Do nothing: the connection itself ends at each fault."""


class AiomcachePool:
    """Gives each command of aiomcache a stream, instead of a connection of its own."""

    def __init__(self, send: SendOneLine) -> None:
        self._send = send

    async def acquire(self) -> Connection:
        """Return the reader and the writer of a command."""
        stream = AiomcacheStream(self._send)
        return Connection(stream, stream)  # type: ignore[arg-type]

    def release(self, connection: Connection) -> None:
        """Do nothing: a stream is used once."""


def aiomcache_client(send: SendOneLine) -> aiomcache.Client:
    """Return a client for `set`, `delete` and `version`, whose commands are sent with `send`."""
    client = aiomcache.Client("")
    client._pool = AiomcachePool(send)  # type: ignore[assignment]
    return client
