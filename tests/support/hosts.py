"""A deployment on three hosts: two with a service, a Memcached and a mongod, and one mongod."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pymongo
from pymongo.errors import PyMongoError

from tests.support.memcached import flush_cache
from tests.support.namespace import namespace_of
from tests.support.network import Network
from tests.support.programs import (
    START_SECONDS,
    Program,
    ProgramGroup,
    ServiceProgram,
    memcached,
)
from tests.support.replica_set import initiate, mongod
from tests.support.service import Command
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk
from tornado_members.embedded.programs import (
    REPLICA_SET,
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


class Deployment(ProgramGroup):
    """Two services, each with a Memcached on its host, and a replica set of three hosts.

    The process that uses it must be on the host CLIENT of the network.
    """

    def __init__(self, folder: Path, network: Network, cache: dict[str, Any]) -> None:
        """`cache` are settings."""
        super().__init__()
        self._folder = folder
        self._network = network
        self.token = make_token(access_rights=3, exp=int(time.time()) + 20 * 3600)
        hosts = ",".join(f"{ADDRESSES[host]}:{_MONGOD}" for host in HOSTS)
        self.mongodb_uri = f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"
        self._servers = [f"{ADDRESSES[site]}:{_MEMCACHED}" for site in SITES]
        self._cache = {**cache, "servers": self._servers}
        self.services: list[ServiceProgram] = []

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
        await self._start_programs(stores)
        await asyncio.to_thread(self._initiate)
        await self.primary()
        await asyncio.to_thread(self._begin_epochs)
        self.services += map(self._service, SITES, ("motor", "pymongo"))
        await self._start_programs(self.services)

    def _mongod(self, host: str) -> Program:
        return mongod(self._folder, f"mongod-{host}", _MONGOD, **self._place(host))

    def _memcached(self, site: str) -> Program:
        return memcached(self._folder, f"memcached-{site}", _MEMCACHED, **self._place(site))

    def _place(self, host: str) -> dict[str, Any]:
        """Return the address and the network namespace of a host."""
        return {"host": ADDRESSES[host], "namespace": self._network.namespaces[host]}

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
        log = folder / "serve.log"
        return ServiceProgram(name, command, _SERVICE, log, **self._place(site))

    def _client(self, host: str) -> pymongo.MongoClient[dict[str, Any]]:
        return pymongo.MongoClient(
            ADDRESSES[host], _MONGOD, directConnection=True, timeoutMS=START_SECONDS * 1000
        )

    def _initiate(self) -> None:
        hosts = [f"{ADDRESSES[host]}:{_MONGOD}" for host in HOSTS]
        with self._client("a") as client:
            initiate(client, hosts, election_ms=ELECTION_MS, heartbeat_ms=HEARTBEAT_MS)

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
