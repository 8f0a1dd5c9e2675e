"""Readers and writers of a few hot members, over HTTP, through every process of a cluster."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

from tests.support.hot_members import HotMembers, Record, ShortLivedName
from tests.support.http_client import HttpClient, NoResponse
from tests.support.programs import ServiceProgram
from tests.support.recording_client import RecordingClient

STEADY, RENAMED, RESTING, SHORT_LIVED = 2, 1, 2, 1  # with few, clients often meet on one
# A load that leaves most of the processor to others, for storms that mostly wait for faults to end.
GENTLE: Final[dict[str, Any]] = {"readers": 2, "pause": 0.04, "read_pause": 0.03}


class Services(Protocol):
    """The part of Cluster that a storm needs."""

    @property
    def services(self) -> Sequence[ServiceProgram]:
        """The services, all of which the clients use."""

    @property
    def token(self) -> str:
        """A token with all rights."""


class Storm:
    """A number of readers and writers per process, from one seed."""

    def __init__(
        self,
        cluster: Services,
        *,
        readers: int = 4,
        writers: int = 1,
        pause: float = 0.01,
        read_pause: float = 0.0,
        steady: int = STEADY,
        with_attributes: bool = False,
        seed: int = 0,
    ) -> None:
        """A writer waits `pause` seconds on average between two writes, a reader `read_pause`.

        Readers without a pause take all processor time. There are `steady` members that keep their
        name, or more: many writers have many members, since those of one member take turns, and
        form no groups. The services declare ATTRIBUTES if the members have attributes.
        """
        self.record = Record()
        self.hot = HotMembers(f"Hot {time.time_ns():x}", with_attributes=with_attributes)
        self._cluster = cluster
        self._readers, self._writers = readers, writers
        self._pause = pause
        self._steady = max(steady, 2 * writers)
        self._read_pause = read_pause
        self._until = 0.0
        self._writing = 0  # writes in progress
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._chance = random.Random(seed)

    async def run(self, seconds: float) -> Record:
        """Read and write for some seconds, or until stop(); return all operations so far."""
        await self.make_members()
        began, used = time.monotonic(), time.process_time()
        self._until = began + seconds
        services = self._cluster.services
        async with asyncio.TaskGroup() as tasks:
            for service in services:
                for _ in range(self._readers):
                    tasks.create_task(self._work(service, self._read))
                for _ in range(self._writers):
                    tasks.create_task(self._work(service, self._write))
            for number, name in enumerate([*self.hot.short_lived_names]):
                service = services[number % len(services)]
                tasks.create_task(self._recreate(service, self.hot.short_lived_names[name]))
        self.record.seconds += time.monotonic() - began
        self.record.cpu_seconds += time.process_time() - used
        return self.record

    def stop(self) -> None:
        """Let all clients finish their current request and stop."""
        self._until = 0.0

    def client(self, service: ServiceProgram) -> RecordingClient:
        """Run a client of one process."""
        chance = random.Random(self._chance.random())
        return RecordingClient(service, self._cluster.token, self.hot, self.record, chance)

    async def change_resting(self, service_name: str) -> None:
        """Change the otherwise idle members, through one service."""
        (service,) = [s for s in self._cluster.services if s.name == service_name]
        client = self.client(service)
        for member_id, name in self.hot.resting.items():
            await client.replace(member_id, name)
        client.close()

    @asynccontextmanager
    async def without_writes(self) -> AsyncIterator[None]:
        """Let only reads continue: a write would repair a stale node, and so hide it."""
        self._may_write.clear()
        try:
            while self._writing:
                await asyncio.sleep(0.01)
            yield
        finally:
            self._may_write.set()

    async def find_cold(self, seconds: float) -> list[str]:
        """Read each member through each service until it hits; return those that do not.

        They have so many seconds, under the load of the storm.
        """
        async with asyncio.TaskGroup() as tasks:
            findings = [
                tasks.create_task(self._find_cold(service, seconds))
                for service in self._cluster.services
            ]
        return [cold for finding in findings for cold in finding.result()]

    async def _find_cold(self, service: ServiceProgram, seconds: float) -> list[str]:
        """Read one member after another: once one hits, the others usually need one read each."""
        until = time.monotonic() + seconds
        members = [*self.hot.steady, *self.hot.renamed, *self.hot.resting]
        client = service.client(self._cluster.token)
        try:
            found = [await self._read_until_hit(client, member_id, until) for member_id in members]
        finally:
            client.close()
        return [
            f"member {member_id} through {service.name}: {status!r}"
            for member_id, (is_hit, status) in zip(members, found, strict=True)
            if not is_hit
        ]

    async def _read_until_hit(
        self, client: HttpClient, member_id: int, until: float
    ) -> tuple[bool, bytes | None]:
        """Read a member until it hits; return whether it did, and its last Cache-Status."""
        status: bytes | None = None
        while True:
            with suppress(NoResponse):
                reply = await client(b"GET", b"/members/%d" % member_id)
                status = reply.headers.get(b"cache-status")
            if status and b"; hit" in status:
                return True, status
            if time.monotonic() > until:
                return False, status
            await asyncio.sleep(0.02)  # a busy worker reads the node for short times only

    async def race(self, slow: ServiceProgram, fast: ServiceProgram, spread: float) -> None:
        """Once for each member, read it through one service while another changes it.

        Call it when `slow` reaches the cache slowly: its fill is on the way for some of the
        `spread` seconds, and the change happens at one moment of these. Then both read the member.
        """
        await self.make_members()
        async with asyncio.TaskGroup() as tasks:
            for member_id, name in [*self.hot.steady.items(), *self.hot.resting.items()]:
                tasks.create_task(self._race(slow, fast, spread, member_id, name))

    async def _race(
        self, slow: ServiceProgram, fast: ServiceProgram, spread: float, member_id: int, name: str
    ) -> None:
        reader, writer = self.client(slow), self.client(fast)
        await writer.replace(member_id, name)  # so it is in no cache
        is_alone = self._chance.random() < 0.5
        read = reader.read(member_id) if is_alone else reader.read_batch([member_id])
        reading = asyncio.create_task(read)
        await asyncio.sleep(spread * self._chance.random())
        await writer.replace(member_id, name)
        await reading
        await writer.read(member_id)
        reader.close()
        writer.close()

    async def make_members(self) -> None:
        """Create the members, unless they exist."""
        if self.hot.steady:
            return
        hot, client = self.hot, self.client(self._cluster.services[0])
        steady = self._steady
        names = [hot.new_name() for _ in range(steady + RENAMED + RESTING)]
        ids = [await client.create(name) for name in names]
        for number, (member_id, name) in enumerate(zip(ids, names, strict=True)):
            assert member_id, self.record.statuses
            if number < steady:
                hot.steady[member_id] = name
            elif number < steady + RENAMED:
                hot.renamed[member_id] = (name, hot.new_name())
            else:
                hot.resting[member_id] = name
        for _ in range(SHORT_LIVED):
            short_lived = ShortLivedName(hot.new_name())
            hot.short_lived_names[short_lived.name] = short_lived
        client.close()

    async def _work(
        self, service: ServiceProgram, work: Callable[[RecordingClient], Awaitable[None]]
    ) -> None:
        client = self.client(service)
        try:
            while time.monotonic() < self._until:
                await work(client)
        finally:
            client.close()

    async def _read(self, client: RecordingClient) -> None:
        await client.read_something()
        if self._read_pause:
            await asyncio.sleep(2 * self._read_pause * self._chance.random())

    async def _write(self, client: RecordingClient) -> None:
        async with self._in_turn():
            await client.write_something()
        await asyncio.sleep(2 * self._pause * self._chance.random())

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Write, unless writes are disabled now."""
        await self._may_write.wait()
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1

    async def _recreate(self, service: ServiceProgram, short_lived: ShortLivedName) -> None:
        """Create the members of a name one after another; replace a name that is in doubt."""
        client = self.client(service)
        try:
            while time.monotonic() < self._until:
                async with self._in_turn():
                    is_known = await client.create_and_delete(short_lived)
                if not is_known:
                    del self.hot.short_lived_names[short_lived.name]
                    short_lived = ShortLivedName(self.hot.new_name())
                    self.hot.short_lived_names[short_lived.name] = short_lived
        finally:
            client.close()
