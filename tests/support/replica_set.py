"""Three mongod processes that elect a primary, for tests of failovers."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from tests.support.connections import has_socket, socket_inode
from tests.support.fault_proxy import CUT, NO_FAULT, FaultProxy, LinkFault
from tests.support.programs import START_SECONDS, Program, ProgramGroup, lasting_port
from tornado_members.embedded.programs import REPLICA_SET, mongod_command

Admin = pymongo.MongoClient[dict[str, Any]]

# Milliseconds. By default, a silent primary is replaced after ten seconds.
ELECTION_MS, HEARTBEAT_MS = 1000, 200


def mongod(
    folder: Path,
    name: str,
    port: int,
    *,
    parameters: Sequence[str] = (),
    host: str = "127.0.0.1",
    namespace: str | None = None,
) -> Program:
    """Return a node of a replica set. Its data and its log are in `folder`."""
    (data := folder / name).mkdir()
    command = mongod_command(data, port)
    command[command.index("--bind_ip") + 1] = host
    command[command.index("--oplogSize") + 1] = "64"
    command += [part for parameter in parameters for part in ("--setParameter", parameter)]
    return Program(name, command, port, folder / f"{name}.log", host=host, namespace=namespace)


def initiate(client: Admin, hosts: Sequence[str], *, election_ms: int, heartbeat_ms: int) -> None:
    """Make nodes a replica set. `client` is connected to one of them."""
    settings = {"electionTimeoutMillis": election_ms, "heartbeatIntervalMillis": heartbeat_ms}
    members = [{"_id": number, "host": host} for number, host in enumerate(hosts)]
    config = {"_id": REPLICA_SET, "members": members, "settings": settings}
    client.admin.command("replSetInitiate", config)


class ReplicaSet(ProgramGroup):
    """Three nodes on loopback.

    With `proxied`, all connections to a node pass through a proxy, including those of other nodes,
    so that a node can be cut off from the others only. Proxies identify clients by process.
    """

    def __init__(
        self, folder: Path, *, proxied: bool = False, election_ms: int = ELECTION_MS
    ) -> None:
        """`election_ms` is the time after which a primary without a majority steps down."""
        super().__init__()
        self._election_ms = election_ms
        self.clients: Sequence[Program] = ()  # that proxies distinguish, besides the nodes
        parameters = ["enableTestCommands=1", "diagnosticDataCollectionEnabled=false"]
        self.nodes = [
            mongod(folder, f"mongod-{number}", lasting_port(), parameters=parameters)
            for number in (1, 2, 3)
        ]
        targets = [f"127.0.0.1:{node.port}" for node in self.nodes]
        self.proxies = (
            [FaultProxy(target, self._client_name) for target in targets] if proxied else []
        )
        self._hosts = targets

    @property
    def uri(self) -> str:
        """The URI of all three nodes."""
        return f"mongodb://{','.join(self._hosts)}/?replicaSet={REPLICA_SET}"

    async def _start(self) -> None:
        await self._start_programs(self.nodes)
        for proxy in self.proxies:
            await self._stack.enter_async_context(proxy)
        if self.proxies:
            self._hosts = [proxy.address for proxy in self.proxies]
        await asyncio.to_thread(self._initiate)
        await self.all_well()

    def client(self, node: Program, seconds: float = 5) -> Admin:
        """Return a client of one node, whatever its state."""
        return Admin("127.0.0.1", node.port, directConnection=True, timeoutMS=round(seconds * 1000))

    async def primary(self, *, other_than: Program | None = None) -> Program:
        """Wait for a primary; return its node."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                for node in self.nodes:
                    if node is not other_than and await asyncio.to_thread(self._is_primary, node):
                        return node
                await asyncio.sleep(0.1)  # each question is a connection

    async def all_well(self) -> None:
        """Wait for a primary that both others follow, so that any one of them may be lost."""
        async with asyncio.timeout(START_SECONDS):
            while await asyncio.to_thread(self._states) != {1: 1, 2: 2}:
                await asyncio.sleep(0.1)

    async def kill_primary(self) -> None:
        """Kill the primary as a power cut would; it returns when there is another primary."""
        node = await self.kill_primary_for_good()
        node.start()

    async def kill_primary_for_good(self) -> Program:
        """Kill the primary; return its node once there is another primary."""
        await self.all_well()
        node = await self.primary()
        await node.end(signal.SIGKILL)
        await self.primary()
        return node

    async def step_down(self) -> None:
        """Step the primary down, as an upgrade would."""
        await self.all_well()
        node = await self.primary()
        await asyncio.to_thread(self._step_down, node)
        await self.primary()

    async def freeze_primary(self) -> None:
        """Stop the primary; it continues when there is another one, and must discover that."""
        await self.all_well()
        node = await self.primary()
        async with node.paused():
            await self.primary(other_than=node)

    async def cut_off_primary(self) -> None:
        """Cut the primary off from the others for a while; clients reach all of them.

        This needs proxies.
        """
        await self.all_well()
        node = await self.primary()
        others = [other for other in self.nodes if other is not node]
        try:
            await self._cut(node, others, CUT)
            await self.primary(other_than=node)
        finally:
            await self._cut(node, others, NO_FAULT)

    @asynccontextmanager
    async def deposed_primary(self, alone: Program) -> AsyncIterator[None]:
        """Have a primary that has not learned that it was replaced, and that only `alone` reaches.

        This needs proxies. The primary steps down by itself after `election_ms`; the block should
        end before.
        """
        await self.all_well()
        node = await self.primary()
        others = [other for other in self.nodes if other is not node]
        try:
            await self._cut(node, others, CUT)
            for other in others:
                await self.proxies[self.nodes.index(other)].set(CUT, alone.name)
            await self._step_up_one(others)
            yield
            assert await asyncio.to_thread(self._is_primary, node), "the primary has stepped down"
        finally:
            for other in others:
                await self.proxies[self.nodes.index(other)].set(NO_FAULT, alone.name)
            await self._cut(node, others, NO_FAULT)

    async def _step_up_one(self, nodes: list[Program]) -> None:
        """Make one of these nodes the primary. Nodes without the last change refuse that."""
        async with asyncio.timeout(START_SECONDS):
            for node in cycle(nodes):
                if await asyncio.to_thread(self._step_up, node):
                    return
                await asyncio.sleep(0.05)

    async def _cut(self, node: Program, others: list[Program], fault: LinkFault) -> None:
        own = self.proxies[self.nodes.index(node)]
        for other in others:
            await own.set(fault, other.name)
            await self.proxies[self.nodes.index(other)].set(fault, node.name)

    def _client_name(self, port: int, proxy_port: int) -> str | None:
        inode = socket_inode(port, proxy_port)
        for program in (*self.nodes, *self.clients):
            if inode and any(has_socket(pid, inode) for pid in program.pids):
                return program.name
        return None

    def _initiate(self) -> None:
        with self.client(self.nodes[0], START_SECONDS) as client:
            initiate(client, self._hosts, election_ms=self._election_ms, heartbeat_ms=HEARTBEAT_MS)

    def _is_primary(self, node: Program) -> bool:
        with suppress(PyMongoError), self.client(node, 0.5) as client:
            return bool(client.admin.command("hello").get("isWritablePrimary"))
        return False

    def _states(self) -> Counter[int]:
        """Count the nodes by their state: primary (1), secondary (2), or another one."""
        states: Counter[int] = Counter()
        for node in self.nodes:
            with suppress(PyMongoError), self.client(node, 0.5) as client:
                states[client.admin.command("replSetGetStatus")["myState"]] += 1
        return states

    def _step_up(self, node: Program) -> bool:
        with suppress(OperationFailure), self.client(node, START_SECONDS) as client:
            client.admin.command("replSetStepUp")
            return True
        return False

    def _step_down(self, node: Program) -> None:
        with self.client(node, START_SECONDS) as client:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=10)
