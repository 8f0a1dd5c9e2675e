"""A client of one Memcached server: bounded in time, and quick to detect its failure.

- All commands of a process share one connection (connection.py), which ends at the first fault.
- Every command has a deadline.
- A server that fails gets no commands, and costs no time, until a probe in the background succeeds.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from logging import getLogger
from typing import Any, TypeVar

import aiomcache

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.commands import (
    Command,
    Gets,
    Held,
    Put,
    PutMany,
    checked,
)
from tornado_members.lease_cache.connection import MemcachedConnection
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.get_commands import EntryLines, Get, GetEntries
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.simple_commands import Increments, aiomcache_client

T = TypeVar("T")
log = getLogger(__name__)

_MAX_FAILURES = 3  # in a row, before a server counts as unavailable
_MOST_SENT = 1024 * 1024  # bytes of a command, unless a single value is larger: each has a deadline


class MemcachedNode:
    """One server. Every command raises NodeUnavailable within the time-out if it fails.

    Methods send their command whether or not the result is awaited. Small commands of one turn of
    the event loop share a request. The time-out begins when the commands before it have their
    replies. While the server hangs, all commands fail together.

    Keys are 1 to 250 printable ASCII bytes, lives are seconds from 1 to MAX_TTL; anything else is
    a ValueError.
    """

    def __init__(self, address: str, *, timeout: float, probe_interval: float = 0.2) -> None:
        """`address` is host:port; `timeout` and `probe_interval` are seconds."""
        host, _, port = address.rpartition(":")
        self.address = address
        self.host_port = host.strip("[]"), int(port)
        self.timeout = timeout
        self.last_reply_at = float("-inf")  # when what it answered last was sent, by clock()
        self.failures = 0  # commands without a reply since the last reply
        self.longest_gap = math.inf
        self.on_return: Callable[[float], None] = _ignore
        self._on_failure: Callable[[float], None] = _ignore
        self._client = aiomcache_client(self._send)
        self._probe_interval = probe_interval
        self._connection: MemcachedConnection | None = None
        self._probing: asyncio.Task[None] | None = None
        self._closed = False

    def observe(
        self,
        longest_gap: float,
        *,
        on_return: Callable[[float], None],
        on_failure: Callable[[float], None],
    ) -> None:
        """Report failures, and replies after a failure or after more than `longest_gap` seconds.

        The functions are called with the time when the command was sent, by clock().
        """
        self.longest_gap = longest_gap
        self.on_return, self._on_failure = on_return, on_failure

    @property
    def is_unavailable(self) -> bool:
        """True while commands are refused at once: the server failed and is probed."""
        return self._probing is not None

    def get_many(self, keys: Sequence[bytes]) -> Awaitable[dict[bytes, bytes]]:
        """Return the values of those keys that have one.

        The result may contain the keys of other callers, too.
        """
        return self._connected().send(Get(keys)) if keys else _done({})

    async def get_entries(
        self, before: Sequence[bytes], keys: KeyList
    ) -> tuple[dict[bytes, bytes], EntryLines | dict[bytes, bytes]]:
        """Return the values of `before`, and then those of `keys`: as lines if all are entries.

        The first result may contain the keys of other callers, too.
        """
        first = self._send(Get(before))
        second: asyncio.Future[Any] = self._send(GetEntries(keys))
        try:
            return await first, await second
        finally:
            second.cancel()  # without effect once it is done

    def gets_many(self, keys: Sequence[bytes]) -> Awaitable[dict[bytes, Held]]:
        """Return the values of those keys that have one, with the tokens that replace them.

        They include the seconds until the value expires, which only the meta commands return.
        The result may contain the keys of other callers, too.
        """
        return self._connected().send(Gets(keys)) if keys else _done({})

    def put_many(self, puts: Sequence[Put]) -> Awaitable[list[int | None]]:
        """Store or remove values in one round trip, or in one per MiB.

        Returns for each: 1 if it was stored or removed (its token if the put wants that), 0 if
        another client was faster, None if the server refuses such a value. A refused value leaves
        what is under the key.
        """
        if sum([len(put.value) for put in puts]) > _MOST_SENT:
            return self._put_parts(puts)
        return self._connected().send(PutMany(puts)) if puts else _done([])

    async def _put_parts(self, puts: Sequence[Put]) -> list[int | None]:
        stored: list[int | None] = []
        for part in _parts(puts):
            done = await self._send(PutMany(part))
            stored += done
        return stored

    async def set(self, key: bytes, value: bytes, ttl: int) -> None:
        """Store a value unconditionally. Raises NodeUnavailable if the server refuses it."""
        checked(key, ttl)
        with self._refusals():
            if not await self._client.set(key, value, ttl):
                raise NodeUnavailable(f"{self.address} did not store")

    async def increment_many(self, amounts: Mapping[bytes, int], ttl: int) -> dict[bytes, int]:
        """Add to numbers in one round trip; return the sums.

        A missing number starts at 0, and expires `ttl` seconds from now. A sum is missing if the
        server refuses: the value is not a number, or memory is full.
        """
        return await self._send(Increments(amounts, ttl)) if amounts else {}

    async def delete(self, key: bytes) -> bool:
        """Remove a value; False when there was none."""
        checked(key)
        with self._refusals():
            return await self._client.delete(key)

    async def close(self) -> None:
        """Close the connection. Commands under way end with NodeUnavailable."""
        self._closed = True
        if self._probing:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        if self._connection:
            self._connection.close()
        await asyncio.sleep(0)  # an aborted connection is closed in the next turn of the loop

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Raise NodeUnavailable for what aiomcache raises if the server refuses a command."""
        try:
            yield
        except aiomcache.ClientException as error:
            raise NodeUnavailable(f"{self.address}: {error}") from error

    def _send(self, command: Command[T]) -> "asyncio.Future[T]":
        return self._connected().send(command)

    def _connected(self) -> "MemcachedConnection | _Unavailable":
        """Return the connection; a new one if it was closed."""
        connection = self._connection
        if connection is None or connection.is_closed:
            if self._probing or self._closed:
                return _Unavailable(self)
            connection = self._connection = MemcachedConnection(self)
        return connection

    def connection_broken(self, error: NodeUnavailable, sent_at: float) -> None:
        """Probe the server from now on if it has failed too often."""
        if self.failures >= _MAX_FAILURES and not self._probing and not self._closed:
            log.warning("Memcached %s; continuing without it", error)
            self._probing = asyncio.create_task(self._probe())
        self._on_failure(sent_at)

    async def _probe(self) -> None:
        connection = None
        try:
            while True:
                await asyncio.sleep(self._probe_interval)
                connection = MemcachedConnection(self)
                with suppress(NodeUnavailable), self._refusals():
                    await aiomcache_client(connection.send).version()
                    break
                connection.close()
        except BaseException:
            if connection:
                connection.close()
            raise
        self._connection = connection
        self._probing = None
        log.warning("Memcached %s responds again", self.address)


class _Unavailable:
    """Refuses commands in place of a connection."""

    def __init__(self, server: MemcachedNode) -> None:
        self._server = server

    def send(self, command: Command[T]) -> "asyncio.Future[T]":
        """Return a failure."""
        error = NodeUnavailable(f"{self._server.address} is unavailable")
        command.fail(error)
        self._server.failures += 1
        self._server.connection_broken(error, clock())
        return command.futures[0]


def _ignore(_sent_at: float) -> None:
    pass


def _done(result: T) -> "asyncio.Future[T]":
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future


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
