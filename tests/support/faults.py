"""Injects faults, one after another, into a cluster under load."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from tests.support.cluster import Cluster
from tests.support.fault_proxy import (
    CUT,
    FROZEN,
    GARBAGE,
    NO_FAULT,
    REPEATED,
    FaultProxy,
    LinkFault,
)
from tests.support.following import followed
from tests.support.programs import REPLACEMENTS, Program, Replacement
from tests.support.replica_set import ReplicaSet

# During these, one process alone cannot reach a node that others reach: answers may be stale for as
# long as the change stream lags. All other faults excuse nothing.
PARTITIONS = ("cut", "freeze")
# Faults during which every request has a response, and none is a 5xx.
HARMLESS = ("node-kill", "node-stop", "node-restart", "garbage", "repeat", "cut", "freeze", "delay")
OF_REPLICA_SET = ("primary-kill", "primary-freeze", "primary-stepdown")
NEED_PROXY = ("garbage", "repeat", "cut", "freeze", "delay")
_READS_SECONDS = 1.5  # of nodes that continue; longer than cache.return_ms


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault and its duration, in seconds of time.monotonic()."""

    kind: str
    where: str
    start: float
    end: float


class Faults:
    """The faults that can be injected, and those that were."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        seed: int = 0,
        longest: float = 2.0,
        report: Callable[[str], None] = lambda _line: None,
        meanwhile: Callable[[str], Awaitable[None]] | None = None,
        without_writes: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        replica_set: ReplicaSet | None = None,
    ) -> None:
        """A fault lasts `longest` seconds at most; `report` is called when one begins.

        `meanwhile` is called with the name of a service that has just been cut off, or whose node
        hangs; `without_writes` keeps others from writing. `replica_set` loses its primary.
        """
        self.injected: list[Injected] = []
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._longest = longest
        self._report = report
        self._meanwhile = meanwhile
        self._without_writes = without_writes
        self._began = time.monotonic()
        self._kinds: dict[str, Callable[[], tuple[str, Awaitable[None]]]] = {
            "node-kill": lambda: self._restart(self._node(), signal.SIGKILL),
            "node-restart": lambda: self._restart(self._node(), signal.SIGTERM),
            "node-stop": lambda: self._pause(self._node()),
            "garbage": lambda: self._spoil(GARBAGE, None),
            "repeat": lambda: self._spoil(REPEATED, None),
            "cut": lambda: self._spoil(CUT, self._service()),
            "freeze": lambda: self._spoil(FROZEN, self._service()),
            "delay": lambda: self._spoil(LinkFault(delay=0.02), self._service()),
            "service-kill": lambda: self._restart(self._service(), signal.SIGKILL),
            "process-stop": lambda: self._pause(self._service()),
            "replacement": self._replace,
            "stepdown": self._step_down,
        }
        if replica_set:
            self._kinds |= {
                "primary-kill": lambda: ("mongodb", replica_set.kill_primary()),
                "primary-freeze": lambda: ("mongodb", replica_set.freeze_primary()),
                "primary-stepdown": lambda: ("mongodb", replica_set.step_down()),
            }

    async def run(self, kinds: Sequence[str], seconds: float, pause: float = 1.0) -> None:
        """Inject faults of these kinds, each in its turn, in an order that the seed decides.

        The average pause between two is `pause` seconds. The last one ends before this returns.
        """
        until = time.monotonic() + seconds
        turn: list[str] = []
        while kinds:
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.5))
            if time.monotonic() >= until:
                return
            turn = turn or self._chance.sample(kinds, len(kinds))
            await self.inject(turn.pop())

    async def inject(self, kind: str) -> None:
        """Inject one fault, to its end."""
        where, happening = self._kinds[kind]()
        start = time.monotonic()
        self._report(f"{start - self._began:6.1f} s  {kind} {where}")
        try:
            await happening
        finally:
            self.injected.append(Injected(kind, where, start, time.monotonic()))

    def _node(self) -> Program:
        return self._chance.choice(self._cluster.nodes)

    def _service(self) -> Program:
        return self._chance.choice(self._cluster.services)

    def _restart(self, program: Program, how: signal.Signals) -> tuple[str, Awaitable[None]]:
        return program.name, program.restart(how)

    def _seconds(self) -> float:
        """Return a duration longer than a heartbeat (cache.heartbeat_ms)."""
        return self._chance.uniform(min(0.3, self._longest), self._longest)

    def _pause(self, program: Program) -> tuple[str, Awaitable[None]]:
        seconds = self._seconds()
        return f"{program.name}, {seconds:.1f} s", program.pause(seconds)

    def _spoil(self, fault: LinkFault, whose: Program | None) -> tuple[str, Awaitable[None]]:
        number = self._chance.randrange(len(self._cluster.proxies))
        seconds = self._seconds()
        name = whose.name if whose else "all services"
        where = f"{name} and node-{number + 1}, {seconds:.1f} s"
        proxy = self._cluster.proxies[number]
        return where, self._spoil_for(seconds, proxy, fault, whose.name if whose else None)

    async def _spoil_for(
        self, seconds: float, proxy: FaultProxy, fault: LinkFault, client: str | None
    ) -> None:
        await proxy.set(fault, client)
        lasting = asyncio.create_task(asyncio.sleep(seconds))
        try:
            if self._meanwhile and client and fault.kind in PARTITIONS:
                await self._meanwhile(client)
            await lasting
        finally:
            await proxy.set(NO_FAULT, client)

    def _replace(self) -> tuple[str, Awaitable[None]]:
        how = self._chance.choice(REPLACEMENTS)
        return f"all services, by {how}", self._replace_all(how)

    async def _replace_all(self, how: Replacement) -> None:
        """Replace all services while all nodes hang, and have missed a change."""
        services = self._cluster.services
        async with AsyncExitStack() as quiet:
            async with AsyncExitStack() as hanging:
                for node in self._cluster.nodes:
                    await hanging.enter_async_context(node.paused())
                with pymongo.MongoClient[dict[str, Any]](self._cluster.mongodb_uri) as client:
                    async with followed(client[self._cluster.database]):
                        if self._meanwhile:
                            await self._meanwhile(self._chance.choice(services).name)
                        # No later write may give the nodes a new epoch.
                        await quiet.enter_async_context(self._without_writes())
                await asyncio.gather(*(service.replace(how) for service in services))
            await asyncio.sleep(_READS_SECONDS)

    def _step_down(self) -> tuple[str, Awaitable[None]]:
        # The longer duration exceeds the limit of an operation (mongodb.timeout_ms).
        seconds = self._chance.choice([1, 4])
        stepping_down = asyncio.to_thread(_step_down, self._cluster.mongodb_uri, seconds)
        return f"mongodb, {seconds} s", stepping_down


def _step_down(uri: str, seconds: int) -> None:
    """Step down the only node of a replica set, which may be elected again after a while."""
    with pymongo.MongoClient[dict[str, Any]](uri, directConnection=True, timeoutMS=5000) as client:
        client.admin.command("replSetStepDown", seconds, secondaryCatchUpPeriodSecs=0, force=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(PyMongoError):
                if client.admin.command("hello").get("isWritablePrimary"):
                    return
            time.sleep(0.05)
    raise AssertionError("MongoDB has no primary again")
