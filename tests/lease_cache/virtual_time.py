"""An event loop whose time passes only while all tasks wait: seconds take milliseconds.

Time jumps to the next timer. So what happens in a run depends only on the run's own schedule, and
many schedules can be tried.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tornado_members.lease_cache.commands import Held, Put
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.heartbeat import HeartbeatThread

T = TypeVar("T")

LATENCY = 0.001  # seconds, of a command


class _JumpingSelector(selectors.SelectSelector):
    """Does not wait: it lets as much time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:  # no timer is left: a thread may be awaited
            return super().select(0)
        # No socket is in use, and a thread adds its callback to the loop itself.
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # of asyncio
        """Wait for the threads in real time: Python 3.12 and later wait for a time of the loop."""
        await super().shutdown_default_executor()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a virtual loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@dataclass
class ModelServer:
    """A Memcached in memory, which may hang or refuse connections, and may lose its memory.

    Its clock has whole seconds, as that of Memcached.
    While it hangs, commands are lost. While it is suspended, they wait in its sockets: it executes
    them when it continues, when their time-outs are over.
    """

    items: dict[bytes, tuple[bytes, int, float]] = field(default_factory=dict)
    state: str = "up"  # | "hangs" | "suspended" | "refuses"
    last_token: int = 0
    late: list[Callable[[], object]] = field(default_factory=list)

    def resume(self) -> None:
        """Reply again, after the commands that waited were executed."""
        self.state = "up"
        while self.late:
            self.late.pop(0)()

    def get(self, key: bytes) -> Held | None:
        value, token, expires_at = self.items.get(key, (b"", 0, 0.0))
        left = expires_at - self.clock()
        if left <= 0:
            return None
        return Held(value, token, None if left == float("inf") else int(left))

    @staticmethod
    def clock() -> int:
        return int(asyncio.get_running_loop().time())

    def put(self, put: Put) -> int:
        held = self.get(put.key)
        if (held.token if held else None) != put.token:
            return 0
        if put.ttl == 0:
            del self.items[put.key]
            return 1
        self.last_token += 1
        expires_at = float("inf")
        if put.ttl is not None:
            expires_at = self.clock() + put.ttl
        self.items[put.key] = (put.value, self.last_token, expires_at)
        return self.last_token if put.wants_token else 1


class ModelConnection:
    """A MemcachedNode of one process, to a ModelServer."""

    def __init__(self, server: ModelServer, address: str, timeout: float) -> None:
        self.address = address
        self.host_port = ("model", 1)
        self.last_reply_at = float("-inf")
        self._has_failed = False
        self._server = server
        self._timeout = timeout
        self.observe(float("inf"), on_return=lambda _: None, on_failure=lambda _: None)

    def observe(
        self,
        longest_gap: float,
        *,
        on_return: Callable[[float], None],
        on_failure: Callable[[float], None],
    ) -> None:
        self._longest_gap, self._on_return, self._on_failure = longest_gap, on_return, on_failure

    async def reach(self, command: Callable[[], object] = lambda: None) -> None:
        """Return when the server received a command. Raises NodeUnavailable.

        A suspended server executes the command later.
        """
        sent = asyncio.get_running_loop().time()
        await asyncio.sleep(LATENCY)
        if self._server.state == "suspended":
            self._server.late.append(command)
        if self._server.state in ("hangs", "suspended"):
            await asyncio.sleep(self._timeout)
            raise self._failure(sent)
        if self._server.state != "up" or asyncio.get_running_loop().time() > sent + self._timeout:
            raise self._failure(sent)
        if self._has_failed or sent - self.last_reply_at > self._longest_gap:
            self._on_return(sent)
        self._has_failed = False
        self.last_reply_at = max(self.last_reply_at, sent)

    def _failure(self, sent: float) -> NodeUnavailable:
        self._has_failed = True
        self._on_failure(sent)
        return NodeUnavailable()

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return {key: held.value for key, held in (await self.gets_many(keys)).items()}

    async def gets_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        await self.reach()
        found = {key: self._server.get(key) for key in keys}
        await asyncio.sleep(LATENCY)
        return {key: held for key, held in found.items() if held}

    async def put_many(self, puts: Sequence[Put]) -> list[int | None]:
        await self.reach(lambda: [self._server.put(put) for put in puts])
        done: list[int | None] = [self._server.put(put) for put in puts]
        await asyncio.sleep(LATENCY)
        return done

    async def close(self) -> None:
        pass


class VirtualHeartbeat(HeartbeatThread):
    """The heartbeat as a task."""

    server: ModelServer  # set by the test

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat())

    def stop(self) -> None:
        pass

    async def _beat(self) -> None:
        connection = ModelConnection(self.server, "", self._timeout)
        while True:
            await asyncio.sleep(self._next_pause())
            sent = self._now()
            try:
                await connection.reach()
            except NodeUnavailable:
                continue
            self._note_reply(sent)
