"""Several services on one database and the same Memcached nodes, each in its own process."""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import psutil
import pymongo

from tests.support.connections import has_socket, socket_inode
from tests.support.fault_proxy import FaultProxy
from tests.support.fork_server import NAIVE_CACHE, NAMESPACE, UNFENCED, ForkedProcess
from tests.support.forked_workers import WORKER
from tests.support.http_client import HttpClient, NoResponse
from tests.support.memcached import flush_cache
from tests.support.namespace import forget_cache_processes, namespace_of
from tests.support.service import Command
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk
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


class Cluster:
    """`async with` starts it; at the end, every process of it is killed."""

    def __init__(
        self,
        folder: Path,
        mongodb_uri: str,
        *,
        processes: int,
        nodes: int,
        naive: bool = False,
        fenced: bool = True,
        audited: bool = True,
        proxied: int = 0,
        database: str = "test",
        cache: dict[str, Any] | None = None,
        members: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        """The first `proxied` nodes are behind a proxy; `cache` and `members` are settings.

        With `naive`, the services use plain cache-aside. Unless `fenced`, they ignore elections.
        If `audited`, every second one records changes, and so forms no groups of writes.
        """
        self._variants = {NAIVE_CACHE: naive, UNFENCED: not fenced}
        self._folder = folder
        self._audited = audited
        self._stack = AsyncExitStack()
        self.mongodb_uri = mongodb_uri
        self.database = database
        self.token = make_token(access_rights=3, exp=int(time.time()) + 20 * 3600)
        self.nodes = [self._node(number) for number in range(1, nodes + 1)]
        self.proxies = [
            FaultProxy(f"127.0.0.1:{node.port}", self._client_name, seed=seed)
            for node in self.nodes[:proxied]
        ]
        self.services: list[ServiceProgram] = []
        self.servers: list[str] = []  # cache.servers
        self._processes = processes
        self._settings: dict[str, Any] = {
            "mongodb": {"uri": mongodb_uri, "database": database},
            "cache": dict(cache or {}),
            "members": dict(members or {}),
            "auth": {
                "issuers": [
                    {
                        "issuer": ISSUER,
                        "audience": AUDIENCE,
                        "jwks": {"keys": [public_jwk("RS256")]},
                    }
                ]
            },
        }

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
        for node in self.nodes:
            self._stack.callback(node.kill)
            node.start()
        await asyncio.gather(*(node.ready() for node in self.nodes))
        for proxy in self.proxies:
            await self._stack.enter_async_context(proxy)
        behind = [proxy.address for proxy in self.proxies]
        direct = [f"127.0.0.1:{node.port}" for node in self.nodes[len(behind) :]]
        # All services have the same list: the node of a key depends on the addresses of the nodes.
        self.servers = [*behind, *direct]
        self._settings["cache"]["servers"] = self.servers
        await asyncio.to_thread(self._begin_epochs)
        for number in range(1, self._processes + 1):
            service = self._service(number)
            service.environment |= {name: "1" for name, used in self._variants.items() if used}
            self._stack.callback(service.kill)
            service.start()
            self.services.append(service)
        await asyncio.gather(*(service.ready() for service in self.services))

    def set_servers(self, service: ServiceProgram, servers: list[str]) -> None:
        """Change `cache.servers` in the settings of a service, which reads them when replaced."""
        config = self._folder / service.name / "settings.yaml"
        settings = json.loads(config.read_text())
        settings["cache"]["servers"] = servers
        config.write_text(json.dumps(settings))

    async def until_in_force(self, servers: list[str]) -> None:
        """Wait until all services use these nodes."""
        async with asyncio.timeout(START_SECONDS):
            while await asyncio.to_thread(self._list_in_force) != (sorted(servers), None):
                await asyncio.sleep(0.05)

    def _list_in_force(self) -> tuple[list[str], list[str] | None]:
        with pymongo.MongoClient[dict[str, Any]](self.mongodb_uri) as client:
            found = client[self.database]["cluster"].find_one({"_id": "cache-servers"})
        assert found
        return found["servers"], found["replaces"]

    def _begin_epochs(self) -> None:
        """Make the nodes look used: new ones are in quarantine for seconds."""
        with pymongo.MongoClient[dict[str, Any]](self.mongodb_uri) as client:
            namespace = namespace_of(client[self.database])
            forget_cache_processes(client[self.database])
        for node in self.nodes:
            flush_cache(f"127.0.0.1:{node.port}", namespace, servers=self.servers)

    def _node(self, number: int) -> Program:
        name, port = f"node-{number}", lasting_port()
        program = find_memcached()
        assert program, "this needs Memcached"
        command = memcached_command(program, self._folder / f"{name}.pid", port)
        return Program(name, command, port, self._folder / f"{name}.log")

    def _service(self, number: int) -> ServiceProgram:
        name, port = f"service-{number}", lasting_port()
        (folder := self._folder / name).mkdir()
        settings = {
            **self._settings,
            # The services alternate between the drivers: the promise does not depend on them.
            "mongodb": {**self._settings["mongodb"], "driver": ["pymongo", "motor"][number % 2]},
            # Nor does it depend on this.
            "audit": {"enabled": self._audited and number % 2 == 1},
            "server": {"port": port},
            "admin": {"port": lasting_port()},
        }
        command = Command(folder, settings)
        start = ["serve", "--config", str(command.config)]
        return ServiceProgram(name, start, port, folder / "serve.log")

    def _client_name(self, port: int, proxy_port: int) -> str | None:
        """The service that has a connection from one port to another."""
        inode = socket_inode(port, proxy_port)
        for service in self.services:
            if inode and any(has_socket(pid, inode) for pid in service.pids):
                return service.name
        return None
