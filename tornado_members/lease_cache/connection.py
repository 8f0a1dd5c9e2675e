"""One connection to a Memcached server, on which commands do not wait for each other's replies.

Memcached replies in the order of the commands. So the connection is a queue of commands: a new one
is sent at the end of the turn of the event loop, together with the others of the turn, and what
arrives belongs to the oldest that is not answered yet. Small commands of one kind become one, and
so do reads of equal lists. After each reply, the server repeats a number (echoes.py).

The connection ends at the first fault: a malformed reply, another number, bytes without a
command, the end of the stream, or a time-out. Then all commands in the queue fail, and no reply
can be mistaken for that of another command. A caller that is cancelled changes nothing: its reply
is read, and ignored.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from itertools import cycle, repeat
from typing import Any, Final, Protocol, TypeVar, cast

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.commands import Command
from tornado_members.lease_cache.echoes import ECHOES
from tornado_members.lease_cache.errors import NodeUnavailable

T = TypeVar("T")

_PROGRESS: Final = 64 * 1024  # bytes; a server that hangs does not send them
_NO_CONTEXT: Final = Context()  # all callers share the connection
_GRACES: Final = 4  # times that a command gets more time because this process was busy


class Server(Protocol):
    """The server of a connection, which notes its replies."""

    address: str
    host_port: tuple[str, int]
    timeout: float  # seconds
    last_reply_at: float  # when the last command that it replied to was sent, by clock()
    failures: int  # commands without a reply since the last reply
    longest_gap: float  # seconds between two replies, without a call of `on_return`

    @property
    def on_return(self) -> Callable[[float], None]:
        """Called at a reply after a failure or a longer gap, with the time of the command."""

    def connection_broken(self, error: NodeUnavailable, sent_at: float) -> None:
        """Note that a connection ended while a command that was sent then waited for a reply."""


class MemcachedConnection(asyncio.Protocol):
    """Sends commands, and gives each its reply.

    The oldest command has `server.timeout` seconds from when it was sent, or from the reply before
    its own. It has more while a large reply arrives: the time begins again after each 64 KiB.

    The time-out does not blame the server for a busy event loop. When the time is over, the reply
    may have arrived unread, so a quarter more is allowed for it. If this check itself is late, the
    event loop was busy: then the time begins again, four times at most.
    """

    def __init__(self, server: Server) -> None:
        self.is_closed = False
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._echoes = cycle(ECHOES)
        self._unsent: list[Command[Any]] = []
        self._shared: dict[object, Command[Any]] = {}  # those of `_unsent` that others may join
        self._waiting: deque[Command[Any]] = deque()  # for their replies
        self._rest = b""  # received bytes that were not parsed
        self._transport: asyncio.Transport | None = None  # None while it is connecting
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer ends; this and the next by the loop's clock
        self._began = 0.0  # when the time of the oldest command began
        self._received = 0  # bytes since then
        self._graces = _GRACES  # that it has left
        self._begin_time()
        self._connecting = self._loop.create_task(self._connect(), context=_NO_CONTEXT)

    def send(self, command: Command[T]) -> "asyncio.Future[T]":
        """Send a command at the end of this turn of the event loop, or once there is a connection.

        Returns its future result, which is NodeUnavailable if the connection ends before the reply.
        """
        future: asyncio.Future[T] = command.futures[0]
        # A request that was sent already must not be shared: its reply may be older than a write
        # that was acknowledged before this call.
        if (kind := command.shared_as) is not None:
            first = self._shared.setdefault(kind, command)
            if first is not command:
                first.join(command)
                return future
        if self._transport is not None and not self._unsent:
            self._loop.call_soon(self._flush, context=_NO_CONTEXT)
        command.sent_at = clock()  # almost; it is known for a command that is never sent, too
        self._unsent.append(command)
        return future

    def _flush(self) -> None:
        if self._transport is None or self.is_closed:
            return
        if not self._waiting:
            self._begin_time()
        now = clock()
        requests = []
        for command in self._unsent:
            command.sent_at = now
            request, command.echo = next(self._echoes)
            requests.append((command.request or command.encode()) + request)
        self._waiting += self._unsent
        self._transport.write(b"".join(requests))
        self._unsent = []
        self._shared = {}

    def close(self, reason: str = "was closed") -> None:
        """Close the connection at once. Commands without a reply fail."""
        if self.is_closed:
            return
        self.is_closed = True
        self._connecting.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        error = NodeUnavailable(f"{self._server.address} {reason}")
        failed = [(one.fail(error), one.sent_at) for one in (*self._waiting, *self._unsent)]
        if sent := [sent_at for callers, sent_at in failed if callers]:
            self._server.failures += sum(callers for callers, _ in failed)
            self._server.connection_broken(error, min(sent))

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: self, *self._server.host_port)
        except Exception as error:  # noqa: BLE001  # also those of name resolution
            self.close(f"cannot be reached: {type(error).__name__}: {error}")

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.is_closed:
            self._transport.abort()
        elif self._unsent:
            self._flush()

    def data_received(self, data: bytes) -> None:
        if self.is_closed:
            return
        self._received += len(data)
        if self._received >= _PROGRESS:
            self._begin_time()
        if self._rest:
            data = self._rest + data
        waiting, at, server = self._waiting, 0, self._server
        try:
            while waiting and at < len(data):
                command = waiting[0]
                if not command.is_complete:
                    at = command.read(data, at)
                if not command.is_complete:
                    break
                echo = command.echo
                if not data.startswith(echo, at):
                    _check_part_of_echo(data[at:], echo)
                    break
                at += len(echo)
                results = command.shares or repeat(command.result)
                for future, result in zip(command.futures, results, strict=False):
                    if not future.done():  # else its caller was cancelled
                        future.set_result(result)
                waiting.popleft()
                if server.failures or command.sent_at - server.last_reply_at > server.longest_gap:
                    server.on_return(command.sent_at)
                server.failures = 0
                server.last_reply_at = max(server.last_reply_at, command.sent_at)
                self._began, self._received, self._graces = self._loop.time(), 0, _GRACES
        except Exception as error:  # noqa: BLE001  # a malformed reply may raise any
            self.close(f"{type(error).__name__}: {error}")
        self._rest = data[at:]
        if self._rest and not waiting:
            self.close("sent bytes without a command")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"broke off: {exc}" if exc else "broke off")

    def _begin_time(self) -> None:
        """Let the time of the oldest command begin."""
        self._began, self._received, self._graces = self._loop.time(), 0, _GRACES
        if self._timer is None:
            self._arm(self._server.timeout)

    def _arm(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._check_time)

    def _check_time(self) -> None:
        """Close the connection if the time of the oldest command is over."""
        self._timer = None
        if self._transport is not None and not self._waiting:
            return
        seconds, now = self._server.timeout, self._loop.time()
        was_late = now - self._due > seconds / 5
        if (left := self._began + seconds - now) > 0:
            self._arm(left)
        elif was_late and self._graces:
            self._graces -= 1
            self._arm(seconds)
        elif self._graces:
            self._graces = 0
            self._arm(seconds / 4)
        else:
            self.close("did not answer in time")


def _check_part_of_echo(data: bytes, echo: bytes) -> None:
    """Raise ConnectionError unless this is the beginning of the echo."""
    if not echo.startswith(data):
        raise ConnectionError("sent a reply without a command")
