"""Several services on one database and the same Memcached nodes, each in its own process."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pymongo

from tests.support.connections import has_socket, socket_inode
from tests.support.fault_proxy import FaultProxy
from tests.support.fork_server import NAIVE_CACHE, UNFENCED
from tests.support.memcached import flush_cache
from tests.support.namespace import forget_cache_processes, namespace_of
from tests.support.programs import (
    START_SECONDS,
    ProgramGroup,
    ServiceProgram,
    lasting_port,
    memcached,
)
from tests.support.service import Command
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk


class Cluster(ProgramGroup):
    """Services with proxies before their Memcached nodes, on a MongoDB that runs already."""

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
        super().__init__()
        self._variants = {NAIVE_CACHE: naive, UNFENCED: not fenced}
        self._folder = folder
        self._audited = audited
        self.mongodb_uri = mongodb_uri
        self.database = database
        self.token = make_token(access_rights=3, exp=int(time.time()) + 20 * 3600)
        self.nodes = [
            memcached(folder, f"node-{number}", lasting_port()) for number in range(1, nodes + 1)
        ]
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

    async def _start(self) -> None:
        await self._start_programs(self.nodes)
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
            self.services.append(service)
        await self._start_programs(self.services)

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
