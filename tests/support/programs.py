"""Servers and services as processes that a test starts, stops, replaces and kills."""

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import psutil

from tests.support.fork_server import NAMESPACE, ForkedProcess
from tests.support.forked_workers import WORKER
from tests.support.http_client import HttpClient, NoResponse
from tornado_members.embedded.programs import (
    find_memcached,
    free_port,
    memcached_command,
    with_parent_death_signal,
)

Replacement = Literal["reload", "restart", "kill", "worker-kill"]
REPLACEMENTS: tuple[Replacement, ...] = get_args(Replacement)
START_SECONDS = 60
_ports: set[int] = set()  # that lasting_port() has returned


def lasting_port() -> int:
    """Return a port for a server that restarts on it: no connection takes such a port meanwhile.

    Test processes that run side by side have ranges of their own, and no port is returned twice.
    """
    first = 20_000 + 1_500 * (int(os.environ.get(WORKER, "0")) % 8)
    while True:
        port = free_port(preferred=random.randrange(first, first + 1_500))
        if port not in _ports:
            _ports.add(port)
            return port


def _runs(pid: int) -> bool:
    """True unless the process has ended, whether or not it was reaped."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Program:
    """A process that can be killed, stopped and restarted, always on the same port.

    It dies with the process that started it.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        port: int,
        log: Path,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
    ) -> None:
        """`namespace` is the file of the network namespace that it runs in (network.py)."""
        self.name = name
        self.host = host
        self.port = port
        self.log = log
        self._namespace = namespace
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}  # further variables

    def _start_process(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if self._namespace:
            command = ["nsenter", f"--net={self._namespace}", "--", *command]
        return subprocess.Popen(with_parent_death_signal(command), **options)

    @property
    def pid(self) -> int | None:
        """The process, if it is running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def pids(self) -> list[int]:
        """The process, and those that it started."""
        with suppress(FileNotFoundError):  # it has ended
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
            return [self.pid or 0, *map(int, children.split())]
        return []

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("MEMBERS_")}
        with self.log.open("ab") as log:
            self._process = self._start_process(
                self._command,
                cwd=self.log.parent,
                env={**inherited, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C must reach the test run only
            )

    async def ready(self) -> None:
        """Wait until it listens."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(self.host, self.port)
                    writer.transport.abort()
                    return
                await self.wait_briefly()

    async def wait_briefly(self) -> None:
        """Wait for it briefly, if there is anything to wait for."""
        assert self.pid, f"{self.name} has ended: {self.log.read_text()[-2000:]}"
        await asyncio.sleep(0.02)

    async def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, and wait until it and its children have ended: then its port is free."""
        if self._process:
            started = self.pids[1:]
            self._process.send_signal(how)
            async with asyncio.timeout(START_SECONDS):
                while self._process.poll() is None or any(map(_runs, started)):
                    await asyncio.sleep(0.005)

    async def restart(self, how: signal.Signals) -> None:
        """End it and start it again."""
        await self.end(how)
        # The workers of a killed service end a moment later, and hold the port until then.
        async with asyncio.timeout(START_SECONDS):
            while free_port(preferred=self.port) != self.port:
                await asyncio.sleep(0.005)
        self.start()
        await self.ready()

    async def pause(self, seconds: float) -> None:
        """Stop it for so many seconds."""
        async with self.paused():
            await asyncio.sleep(seconds)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Stop it (it keeps its connections, and answers nothing), then continue it."""
        assert self._process
        group = self._process.pid  # its own session, so its children stop with it
        os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(group, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()


class ServiceProgram(Program):
    """A members service. Its command is that of `tornado-members`."""

    def _start_process(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        if self._namespace:
            options["env"] = {**options["env"], NAMESPACE: self._namespace}
        return ForkedProcess(command, **options)

    def client(self, token: str) -> HttpClient:
        """A connection to the service."""
        return HttpClient(self.host, self.port, token)

    async def ready(self) -> None:
        """Wait until it responds, which is after it listens."""
        await super().ready()
        client = self.client("none")
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    with suppress(NoResponse):
                        await client(b"GET", b"/members/1")
                        return
                    await self.wait_briefly()
        finally:
            client.close()

    async def replace(self, how: Replacement) -> None:
        """Replace the processes that serve now by others."""
        before = set(self.pids[1:])
        match how:
            case "reload":
                self._signal(self.pid, signal.SIGHUP)
            case "worker-kill":
                for worker in before:
                    self._signal(worker, signal.SIGKILL)
            case "restart":
                await self.restart(signal.SIGTERM)
            case "kill":
                await self.restart(signal.SIGKILL)
        async with asyncio.timeout(START_SECONDS):
            while before & set(self.pids[1:]) or not self.pids[1:]:
                await self.wait_briefly()
        await self.ready()

    @staticmethod
    def _signal(pid: int | None, number: signal.Signals) -> None:
        assert pid
        os.kill(pid, number)


class ProgramGroup:
    """Programs that `async with` starts together. At its end, every process of them is killed."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        """Start the programs, by `_start_programs`."""
        raise NotImplementedError

    async def _start_programs(self, programs: Sequence[Program]) -> None:
        """Start programs, and wait until all are ready."""
        for program in programs:
            self._stack.callback(program.kill)
            program.start()
        await asyncio.gather(*(program.ready() for program in programs))


def memcached(
    folder: Path, name: str, port: int, *, host: str = "127.0.0.1", namespace: str | None = None
) -> Program:
    """Return a Memcached, whose log is in `folder`."""
    program = find_memcached()
    assert program, "this needs Memcached"
    command = memcached_command(program, folder / f"{name}.pid", port)
    command[command.index("-l") + 1] = host
    return Program(name, command, port, folder / f"{name}.log", host=host, namespace=namespace)
