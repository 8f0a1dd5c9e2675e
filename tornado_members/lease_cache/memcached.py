"""A client of one Memcached server: bounded in time, and quick to detect its failure.

- A connection belongs to one command at a time. It is closed, and never used again, unless that
  command's reply was read to its end and nothing followed it.
- Every command has a deadline. Commands that wait for a connection fail together with those that
  have one.
- A server that fails gets no commands, and costs no time, until a probe in the background succeeds.

`connection.py` reads the replies. `set`, `delete` and `version` are aiomcache's, which is pinned:
its private connection pool is replaced.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from logging import getLogger
from typing import TypeVar

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.connection import MemcachedConnection
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.fair_timeout import FairTimeout
from tornado_members.lease_cache.meta_commands import (
    Held,
    Put,
    checked,
    encode_get,
    encode_gets,
    encode_increment,
    encode_puts,
    read_held,
    read_number,
    read_puts,
)

T = TypeVar("T")
log = getLogger(__name__)

_FAILURES_ALLOWED = 3  # in a row, before a server counts as away
_MOST_SENT = 1024 * 1024  # bytes of a command, unless a single value is larger: each has a deadline


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
        self._idle: list[MemcachedConnection] = []
        self._busy: set[MemcachedConnection] = set()
        self._failures = 0
        self.last_reply_at = float("-inf")  # when what it answered last was sent, by clock()
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_away(self) -> bool:
        """True while commands are refused at once: the server failed and is probed."""
        return self._probing is not None

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        unique = list(dict.fromkeys(keys))
        request = encode_get(unique) if unique else b""

        async def command(connection: MemcachedConnection) -> dict[bytes, bytes]:
            connection.write(request)
            return await connection.read_values(unique)

        return await self._command(command) if unique else {}

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, Held]:
        """Return the values of those keys that have one, with the tokens that replace them.

        They include the seconds until the value expires, which only the meta commands return.
        """
        unique = list(dict.fromkeys(keys))
        request = encode_gets(unique) if unique else b""

        async def command(connection: MemcachedConnection) -> dict[bytes, Held]:
            connection.write(request)
            return await read_held(connection, unique)

        return await self._command(command) if unique else {}

    async def put_many(self, puts: Sequence[Put]) -> list[int | None]:
        """Store or remove values in one round trip, or in one per MiB.

        Returns for each: 1 if it was stored or removed (its token if the put wants that), 0 if
        another client was faster, None if the server refuses such a value. A refused value leaves
        what is under the key.
        """
        stored: list[int | None] = []
        for part in _parts(puts):
            stored += await self._put(part)
        return stored

    async def _put(self, puts: Sequence[Put]) -> list[int | None]:
        request = encode_puts(puts)

        async def command(connection: MemcachedConnection) -> list[int | None]:
            connection.write(request)
            return await read_puts(connection, puts)

        return await self._command(command)

    async def set(self, key: bytes, value: bytes, ttl: int) -> None:
        """Store a value unconditionally. Raises NodeUnavailable if the server refuses it."""
        checked(key, ttl)
        if not await self._command(lambda connection: connection.client.set(key, value, ttl)):
            raise NodeUnavailable(f"{self.address} did not store")

    async def increment(self, key: bytes, amount: int, ttl: int) -> int:
        """Add to a number; return the sum."""
        return (await self.increment_many({key: amount}, ttl))[key]

    async def increment_many(self, amounts: Mapping[bytes, int], ttl: int) -> dict[bytes, int]:
        """Add to numbers in one round trip; return the sums.

        A missing number starts at 0, and expires `ttl` seconds from now.
        """
        request = b"".join(encode_increment(key, amount, ttl) for key, amount in amounts.items())

        async def command(connection: MemcachedConnection) -> dict[bytes, int]:
            connection.write(request)
            return {key: await read_number(connection) for key in amounts}

        return await self._command(command) if amounts else {}

    async def delete(self, key: bytes) -> bool:
        """Remove a value; False when there was none."""
        checked(key)
        return await self._command(lambda connection: connection.client.delete(key))

    async def close(self) -> None:
        """Close every connection. Commands under way end with NodeUnavailable."""
        self._closed = True
        if self._probing:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        for wire in [*self._idle, *self._busy]:
            wire.abort()
        await asyncio.sleep(0)  # an aborted connection is closed in the next turn of the loop

    async def _command(self, command: Callable[[MemcachedConnection], Awaitable[T]]) -> T:
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

    async def _attempt(self, command: Callable[[MemcachedConnection], Awaitable[T]]) -> T:
        try:
            async with FairTimeout(self._timeout) as timeout:
                wire = await self._take()
                timeout.watch(wire)
                self._busy.add(wire)
                sent = clock()
                try:
                    result = await command(wire)
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
            # Refused, reset, or a malformed reply. For the latter, aiomcache and meta_commands.py
            # raise several exceptions.
            raise NodeUnavailable(f"{self.address}: {type(error).__name__}: {error}") from error

    async def _take(self) -> MemcachedConnection:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_clean():
                return wire
            wire.abort()
        return await MemcachedConnection.open(*self.host_port)

    def _give_back(self, wire: MemcachedConnection) -> None:
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
                await self._attempt(lambda connection: connection.client.version())
                break
        self._failures = 0
        self._probing = None
        log.warning("Memcached %s answers again", self.address)


def _parts(puts: Sequence[Put]) -> Iterator[Sequence[Put]]:
    """Divide puts into parts whose values have `_MOST_SENT` bytes, or which are one put."""
    start = size = 0
    for place, put in enumerate(puts):
        size += len(put.value)
        if size > _MOST_SENT and place > start:
            yield puts[start:place]
            start, size = place, len(put.value)
    if puts:
        yield puts[start:]
