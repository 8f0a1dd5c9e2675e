"""One Memcached server, spoken to through aiomcache with its traps closed.

aiomcache encodes and parses the protocol. It does not bound time, does not notice a server that is
gone, and hands a connection whose reply is still to come to the next command (its issues 489, 502).
So here
- a connection belongs to one command at a time and is closed, never used again, unless that
  command's reply was read to its end and nothing came behind it;
- a reply that breaks off, is too long or is not ended as it should be is an error at once;
- every command has a deadline, and who waits for a connection is refused with those who have one;
- a server that fails is left alone, at no cost to anybody, until a probe in the background finds
  it well again.

aiomcache is pinned: `_Wire` takes the place of its private connection pool.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from logging import getLogger
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import aiomcache
from aiomcache.pool import Connection

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.errors import NodeUnavailable

T = TypeVar("T")
log = getLogger(__name__)

MAX_TTL = 30 * 86400  # seconds; the protocol takes anything above for a date
MAX_ITEM = 1024 * 1024  # bytes; Memcached's own default
MAX_VALUE = MAX_ITEM - 1024  # bytes; an item has its key and a head as well
_KEY = re.compile(rb"[!-~]{1,250}")
_FAILURES_ALLOWED = 3  # in a row, before a server counts as away
_LONGEST_LINE = 2048  # bytes; a line of a reply holds a key and three numbers
# The server is well: the value is above its -I, or it evicts nothing (-M) and is full.
_REFUSALS = (
    b"SERVER_ERROR object too large for cache\r\n",
    b"SERVER_ERROR out of memory storing object\r\n",
)


class Held(NamedTuple):
    """A stored value, the token that replaces it (`Put`), and the seconds until it expires.

    `seconds_left` is a whole number by the server's own clock; None if the value never expires.
    """

    value: bytes
    token: int
    seconds_left: int | None


class Put(NamedTuple):
    """A value to store if nothing is there; with a token of `gets_many`, if nothing touched it.

    `ttl` is seconds; None is for ever, and 0, which needs a token, removes what is there.
    """

    key: bytes
    value: bytes
    ttl: int | None
    token: int | None = None


class MemcachedNode:
    """One server. Every command raises NodeUnavailable, in time, if it cannot be carried out.

    The time-out begins when it is a command's turn. While the server hangs, those who wait for
    theirs are refused as soon as it counts as away, which takes one time-out.

    Keys are 1 to 250 printable ASCII bytes, lives are seconds from 1 to MAX_TTL; anything else is
    a ValueError.
    """

    def __init__(
        self, address: str, *, timeout: float, connections: int = 8, probe_interval: float = 0.2
    ) -> None:
        """`address` is host:port; `timeout` and `probe_interval` are seconds."""
        host, _, port = address.rpartition(":")
        self.address = address
        self.host_port = host.strip("[]"), int(port)
        self._timeout = timeout
        self._probe_interval = probe_interval
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Wire] = []
        self._busy: set[_Wire] = set()
        self._failures = 0
        self.last_reply_at = float("-inf")  # when what it answered last was sent, by clock()
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_away(self) -> bool:
        """Whether commands are refused at once, because the server failed and is being probed."""
        return self._probing is not None

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        unique = list(dict.fromkeys(map(_checked, keys)))
        values = await self._command(lambda client: client.multi_get(*unique))
        return {key: value for key, value in zip(unique, values, strict=True) if value is not None}

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, Held]:
        """Return the values of those keys that have one, with the tokens that replace them.

        aiomcache does not know the meta commands, which tell the time that a value has left.
        """
        unique = list(dict.fromkeys(map(_checked, keys)))
        request = b"".join(b"mg %b k c f t v\r\n" % key for key in unique)

        async def command(client: aiomcache.Client) -> dict[bytes, Held]:
            reader, writer = await client._pool.acquire()
            writer.write(request)
            found = [(key, await _read_held(reader, key)) for key in unique]
            return {key: held for key, held in found if held is not None}

        return await self._command(command) if unique else {}

    async def put_many(self, puts: Sequence[Put]) -> list[int | None]:
        """Store or remove values in one round trip.

        Returns for each: the token of the stored value (1 for one that was removed), 0 if another
        client was faster, None if the server refuses such a value.
        """
        request = b"".join(map(_encode_put, puts))

        async def command(client: aiomcache.Client) -> list[int | None]:
            reader, writer = await client._pool.acquire()
            writer.write(request)
            return [_decode_put(await reader.readline()) for _ in puts]

        return await self._command(command) if puts else []

    async def set(self, key: bytes, value: bytes, ttl: int) -> None:
        """Store a value, whatever was there. Raises NodeUnavailable if the server refuses it."""
        _checked(key, ttl)
        if not await self._command(lambda client: client.set(key, value, ttl)):
            raise NodeUnavailable(f"{self.address} did not store")

    async def increment(self, key: bytes, amount: int, ttl: int) -> int:
        """Add to a number; one that is missing is 0 at first."""
        _checked(key, ttl)

        async def command(client: aiomcache.Client) -> int:
            await client.add(key, b"0", ttl)
            return await client.incr(key, amount) or 0

        return await self._command(command)

    async def delete(self, key: bytes) -> bool:
        """Remove a value; False when there was none."""
        _checked(key)
        return await self._command(lambda client: client.delete(key))

    async def close(self) -> None:
        """Close every connection. Commands under way end with NodeUnavailable."""
        self._closed = True
        if self._probing:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        for wire in [*self._idle, *self._busy]:
            wire.abort()
        await asyncio.sleep(0)  # an aborted connection is closed in the next turn of the loop

    async def _command(self, command: Callable[[aiomcache.Client], Awaitable[T]]) -> T:
        # The wait for one's own turn says nothing of the server, and ends when it counts as away.
        async with self._slots:
            if self._probing or self._closed:
                raise NodeUnavailable(f"{self.address} is away")
            try:
                result = await self._attempt(command)
            except NodeUnavailable as error:
                self._note_failure(error)
                raise
            self._failures = 0
            return result

    async def _attempt(self, command: Callable[[aiomcache.Client], Awaitable[T]]) -> T:
        try:
            async with _FairTimeout(self._timeout):
                wire = await self._take()
                self._busy.add(wire)
                sent = clock()
                try:
                    result = await command(wire.client)
                except BaseException:  # a cancelled command leaves its reply unread as well
                    wire.abort()
                    raise
                finally:
                    self._busy.discard(wire)
                self.last_reply_at = max(self.last_reply_at, sent)
                self._give_back(wire)
                return result
        except TimeoutError:
            raise NodeUnavailable(f"{self.address} did not answer in time") from None
        except Exception as error:
            # Refused, reset, or nonsense, for which aiomcache has a ClientException, a ValueError,
            # an IndexError or a UnicodeDecodeError.
            raise NodeUnavailable(f"{self.address}: {type(error).__name__}: {error}") from error

    async def _take(self) -> "_Wire":
        while self._idle:
            wire = self._idle.pop()
            if wire.is_clean():
                return wire
            wire.abort()
        return await _Wire.open(*self.host_port)

    def _give_back(self, wire: "_Wire") -> None:
        if wire.is_clean() and not self._closed:
            self._idle.append(wire)
        else:
            wire.abort()

    def _note_failure(self, error: NodeUnavailable) -> None:
        self._failures += 1
        if self._failures >= _FAILURES_ALLOWED and not self._probing and not self._closed:
            log.warning("Memcached %s; going on without it", error)
            while self._idle:
                self._idle.pop().abort()
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(self._probe_interval)
            with suppress(NodeUnavailable):
                await self._attempt(lambda client: client.version())
                break
        self._failures = 0
        self._probing = None
        log.warning("Memcached %s answers again", self.address)


def _checked(key: bytes, ttl: int | None = None) -> bytes:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key")
    if ttl is not None and not 1 <= ttl <= MAX_TTL:
        raise ValueError(f"{ttl} seconds is no time to live")
    return key


def _encode_put(put: Put) -> bytes:
    """Encode a meta command (memcached's doc/protocol.txt, "Meta Set", "Meta Delete")."""
    if put.token is None:
        _checked(put.key, put.ttl)
        mode = b"ME"
    else:
        _checked(put.key, put.ttl or None)
        mode = b"C%d" % put.token
        if put.ttl == 0:
            return b"md %b %b\r\n" % (put.key, mode)
    words = (put.key, len(put.value), mode, put.ttl or 0, put.value)
    return b"ms %b %d %b T%d c\r\n%b\r\n" % words


def _decode_put(line: bytes) -> int | None:
    if line in _REFUSALS:
        return None
    status, *flags = line.split()
    if status == b"HD":
        tokens = [int(flag[1:]) for flag in flags if flag.startswith(b"c")]
        return max(tokens, default=1)
    if status in (b"NS", b"EX", b"NF"):
        return 0
    raise ConnectionError("answered another question")


async def _read_held(reader: asyncio.StreamReader, key: bytes) -> Held | None:
    """Read one reply to "mg" (memcached's doc/protocol.txt, "Meta Get"). Raises on any other."""
    status, *words = (await reader.readline()).split()
    if status == b"EN" and words in ([], [b"k" + key]):  # the version of Memcached decides which
        return None
    size, *flags = words
    returned = {flag[:1]: flag[1:] for flag in flags}
    if status != b"VA" or returned[b"k"] != key:
        raise ConnectionError("answered another question")
    value = (await reader.readexactly(int(size) + 2))[:-2]
    left = int(returned[b"t"])
    # Values of this program have no client flags: one that has is another program's.
    ours = value if returned[b"f"] == b"0" else b""
    return Held(ours, int(returned[b"c"]), None if left < 0 else left)


class _FairTimeout:
    """A time-out that does not take our own lag for the server's.

    When the time is up the answer may be there, unread: so there is a quarter more for it. And when
    this comes late, the event loop was busy, and nobody looked: then it begins again, for a while.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._graces = 4

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._arm(self._seconds)

    async def __aexit__(self, *raised: Any) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(*raised)  # raises TimeoutError in the place of its cancelling

    def _arm(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._handle = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        was_late = self._loop.time() - self._due > self._seconds / 5
        if was_late and self._graces:
            self._graces -= 1
            self._arm(self._seconds)
        elif self._graces:
            self._graces = 0
            self._arm(self._seconds / 4)
        else:
            self._timeout.reschedule(self._loop.time())


async def _nothing_of_ours(_value: bytes, _flags: int) -> bytes:
    """What somebody else stored with flags, which nobody here uses, is no entry."""
    return b""


class _Wire:
    """One connection, in the place of aiomcache's pool of them."""

    def __init__(self, reader: "_ReplyReader", writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = Connection(reader, writer)
        self.client = aiomcache.Client("")
        self.client._get_flag_handler = _nothing_of_ours
        self.client._pool = self  # type: ignore[assignment]

    @classmethod
    async def open(cls, host: str, port: int) -> "_Wire":
        loop = asyncio.get_running_loop()
        reader = _ReplyReader(limit=MAX_ITEM, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, host, port)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def acquire(self) -> Connection:
        return self._connection

    def release(self, connection: Connection) -> None:
        """Whether it may be used again is decided by MemcachedNode."""

    def is_clean(self) -> bool:
        """Whether it is open and everything that was received has been read."""
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
            raise ConnectionError("broke off" if len(line) <= _LONGEST_LINE else "is no Memcached")
        return line

    async def readexactly(self, n: int) -> bytes:
        if not 2 <= n <= MAX_ITEM + 2:
            raise ConnectionError(f"announced a value of {n - 2} bytes")
        block = await super().readexactly(n)
        self.unread -= n
        if not block.endswith(b"\r\n"):
            raise ConnectionError("sent a value of another length than it announced")
        return block
