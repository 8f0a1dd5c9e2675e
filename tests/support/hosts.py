"""A deployment on three hosts: two with a service, a Memcached and a mongod, and one mongod."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pymongo
from pymongo.errors import PyMongoError

from tests.support.cluster import START_SECONDS, Program, ServiceProgram
from tests.support.memcached import flush_cache
from tests.support.namespace import namespace_of
from tests.support.network import Network
from tests.support.service import Command
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk
from tornado_members.embedded.programs import (
    REPLICA_SET,
    find_memcached,
    memcached_command,
    mongod_command,
)

SITES: Final = ("a", "b")  # with a service and a Memcached
HOSTS: Final = (*SITES, "c")
CLIENT: Final = "client"  # of the load; no fault affects it
ADDRESSES: Final = {
    name: f"10.231.7.{number}" for number, name in enumerate((*HOSTS, CLIENT), start=1)
}
# Milliseconds. By default, a silent primary is replaced after ten seconds.
ELECTION_MS, HEARTBEAT_MS = 3000, 500
_MONGOD, _MEMCACHED, _SERVICE, _ADMIN = 27017, 11211, 8888, 8889  # ports
_DATABASE = "hosts"


class Deployment:
    """`async with` starts it; at the end, every process of it is killed.

    The process that uses it must be on the host CLIENT of the network.
    """

    def __init__(self, folder: Path, network: Network, cache: dict[str, Any]) -> None:
        """`cache` are settings."""
        self._folder = folder
        self._network = network
        self._stack = AsyncExitStack()
        self.token = make_token(access_rights=3, exp=int(time.time()) + 20 * 3600)
        hosts = ",".join(f"{ADDRESSES[host]}:{_MONGOD}" for host in HOSTS)
        self.mongodb_uri = f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"
        self._servers = [f"{ADDRESSES[site]}:{_MEMCACHED}" for site in SITES]
        self._cache = {**cache, "servers": self._servers}
        self.services: list[ServiceProgram] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def primary(self) -> str:
        """Wait for a primary; return its host."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                for host in HOSTS:
                    if await asyncio.to_thread(self._is_primary, host):
                        return host
                await asyncio.sleep(0.1)

    async def make_primary(self, host: str) -> None:
        """Make the node of a host the primary, unless it is."""
        async with asyncio.timeout(START_SECONDS):
            while await self.primary() != host:
                with suppress(PyMongoError):
                    await asyncio.to_thread(self._step_up, host)
                await asyncio.sleep(0.2)

    async def _start(self) -> None:
        stores = [*map(self._mongod, HOSTS), *map(self._memcached, SITES)]
        for program in stores:
            self._stack.callback(program.kill)
            program.start()
        await asyncio.gather(*(program.ready() for program in stores))
        await asyncio.to_thread(self._initiate)
        await self.primary()
        await asyncio.to_thread(self._begin_epochs)
        for number, site in enumerate(SITES):
            service = self._service(site, ("motor", "pymongo")[number])
            self._stack.callback(service.kill)
            service.start()
            self.services.append(service)
        await asyncio.gather(*(service.ready() for service in self.services))

    def _program(self, name: str, command: list[str], host: str, port: int) -> Program:
        return Program(
            name,
            command,
            port,
            self._folder / f"{name}.log",
            host=ADDRESSES[host],
            namespace=self._network.namespaces[host],
        )

    def _mongod(self, host: str) -> Program:
        (data := self._folder / f"mongod-{host}").mkdir()
        command = mongod_command(data, _MONGOD)
        command[command.index("--bind_ip") + 1] = ADDRESSES[host]
        command[command.index("--oplogSize") + 1] = "64"
        return self._program(f"mongod-{host}", command, host, _MONGOD)

    def _memcached(self, site: str) -> Program:
        name, program = f"memcached-{site}", find_memcached()
        assert program, "this needs Memcached"
        command = memcached_command(program, self._folder / f"{name}.pid", _MEMCACHED)
        command[command.index("-l") + 1] = ADDRESSES[site]
        return self._program(name, command, site, _MEMCACHED)

    def _service(self, site: str, driver: str) -> ServiceProgram:
        name = f"service-{site}"
        (folder := self._folder / name).mkdir()
        issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": {"keys": [public_jwk("RS256")]}}
        settings = {
            "mongodb": {"uri": self.mongodb_uri, "database": _DATABASE, "driver": driver},
            "cache": self._cache,
            "auth": {"issuers": [issuer]},
            "server": {"host": ADDRESSES[site], "port": _SERVICE},
            "admin": {"port": _ADMIN},
        }
        command = ["serve", "--config", str(Command(folder, settings).config)]
        return ServiceProgram(
            name,
            command,
            _SERVICE,
            folder / "serve.log",
            host=ADDRESSES[site],
            namespace=self._network.namespaces[site],
        )

    def _client(self, host: str) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(
            ADDRESSES[host], _MONGOD, directConnection=True, timeoutMS=START_SECONDS * 1000
        )

    def _initiate(self) -> None:
        settings = {
            "electionTimeoutMillis": ELECTION_MS,
            "heartbeatIntervalMillis": HEARTBEAT_MS,
        }
        members = [
            {"_id": number, "host": f"{ADDRESSES[host]}:{_MONGOD}"}
            for number, host in enumerate(HOSTS)
        ]
        config = {"_id": REPLICA_SET, "members": members, "settings": settings}
        with self._client("a") as client:
            client.admin.command("replSetInitiate", config)

    def _begin_epochs(self) -> None:
        """Make the nodes look used: new ones are in quarantine for seconds."""
        with pymongo.MongoClient[dict[str, Any]](self.mongodb_uri) as client:
            namespace = namespace_of(client[_DATABASE])
        for address in self._servers:
            flush_cache(address, namespace, servers=self._servers)

    def _is_primary(self, host: str) -> bool:
        with suppress(PyMongoError), self._client(host) as client, pymongo.timeout(1):
            return bool(client.admin.command("hello").get("isWritablePrimary"))
        return False

    def _step_up(self, host: str) -> None:
        with self._client(host) as client:
            client.admin.command("replSetStepUp")
