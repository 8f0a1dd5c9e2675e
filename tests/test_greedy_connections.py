"""The memory of greedy connections is at most what docs/operations.md states."""

import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from tests.support.deployment import DEPLOY, read_yaml, settings_with
from tests.support.service import ROOT, Command, Service
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.serving.server import raise_file_limit
from tornado_members.settings import Settings

WARM_UP = 30  # connections, to exclude memory that is allocated once
LEAST_CONNECTIONS = 30  # that are measured
FILLING = 300
ATTEMPTS = 3
KIB = 1024
ARENA = 1024  # KiB that Python takes from the system at once
NEEDS_TOKEN = ("does not read an export", "sends an import slowly", "does not read a list")


class Target:
    """A running service of one worker, with some members."""

    def __init__(self, service: Service) -> None:
        self._port = int(service.url.rpartition(":")[2])
        children = psutil.Process(service.process.pid).children()
        (self.worker,) = [process for process in children if "python" in process.name()]
        self.token = b"Authorization: Bearer " + service._token.encode()

    def resident(self) -> int:
        """Return the bytes of memory that the worker uses."""
        return int(self.worker.memory_info().rss)

    def settled(self) -> int:
        """Return the memory once it no longer changes, although the worker has nothing to do.

        On a busy machine, memory also stays the same while the worker waits for a processor.
        """
        quiet, last = 0, 0
        while quiet < 3:
            time.sleep(0.03)
            now = self.resident()
            quiet = quiet + 1 if now == last and not self._is_busy() else 0
            last = now
        return last

    def _is_busy(self) -> bool:
        """Return True if a thread of the worker runs, or waits for a processor or for memory."""
        threads = Path(f"/proc/{self.worker.pid}/task").iterdir()
        return any(re.search(r"\) [RD] ", (thread / "stat").read_text()) for thread in threads)

    def connect(self, data: bytes, answers: int) -> socket.socket:
        """Send bytes on a new connection, and read a number of bytes of the response."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        with suppress(ConnectionError, TimeoutError):
            connection.settimeout(0.5 if len(data) > 200_000 else 10)
            connection.sendall(data)
            while answers > 0:
                answers -= len(connection.recv(answers)) or answers
        return connection


DOCUMENTATION = (ROOT / "docs" / "operations.md").read_text()


def documented_costs() -> dict[str, int]:
    """Return the KiB per connection that the documentation states, by kind."""
    rows = re.findall(r"^\| ([a-z ]+) \| ([0-9]+) KiB \|", DOCUMENTATION, re.MULTILINE)
    return {kind: int(cost) for kind, cost in rows}


def enough_connections(documented: int) -> int:
    """Return how many connections to measure, so that an arena adds at most a quarter to each."""
    return max(LEAST_CONNECTIONS, 4 * ARENA // documented)


def at_rest() -> int:
    """Return the bytes that the documentation counts for a worker without connections."""
    (mebibytes,) = re.findall(
        r"A worker without connections is counted with ([0-9]+) MiB", DOCUMENTATION
    )
    return int(mebibytes) * KIB * KIB


def head(line: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([line + b" HTTP/1.1", b"Host: members", *lines, b"", b""])


def posted(line: bytes, media_type: bytes, *lines: bytes, length: int, sent: bytes) -> bytes:
    """A request with only a part of its body."""
    sizes = (b"Content-Type: " + media_type, b"Content-Length: %d" % length)
    return head(line, *sizes, *lines) + sent


FILE = head(b"GET /docs/swagger-ui-bundle.js")
JSON = b"application/json"
# By the name in the documentation: the bytes sent, and how many bytes of the response are read.
KINDS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "is idle": (lambda _: head(b"GET /nothing"), 100),
    "sends a header section slowly": (lambda _: head(b"GET /")[:-2] + b"A: " + b"a" * 15 * KIB, 0),
    "sends a body slowly": (
        lambda _: posted(b"POST /login", JSON, length=16 * KIB, sent=b" " * (16 * KIB - 1)),
        0,
    ),
    "sends a body that is refused": (
        lambda _: posted(b"PUT /members", JSON, length=9_000_000, sent=b" " * 100_000),
        0,
    ),
    "pipelines requests": (lambda _: FILE * 8000, 0),
    "does not read a file": (lambda _: FILE, 0),
    "does not read an export": (lambda token: head(b"GET /members", b"Accept: text/csv", token), 0),
    "sends an import slowly": (
        lambda token: posted(
            b"POST /members/import?dry_run=true",
            b"text/csv",
            token,
            length=9_000_000,
            sent=b"name\n" + b"a" * 60 * KIB,
        ),
        0,
    ),
    "does not read a list": (lambda token: head(b"GET /members?limit=1000", token), 0),
}


@pytest.fixture(scope="module")
def target(servers: PrivateServers, admin: pymongo.MongoClient[dict[str, Any]]) -> Iterator[Target]:
    patience = {f"{name}_seconds": 600 for name in ("header", "body", "idle", "write")}
    limits = {"connections_per_address": 4096, **patience}
    settings = {
        "mongodb": {"uri": servers.mongodb_uri, "database": "greedy"},
        "cache": {"servers": servers.cache_servers},
        "server": {"port": 0, "limits": limits, "drain_seconds": 0},
    }
    raise_file_limit(4096)
    with tempfile.TemporaryDirectory(prefix="tornado-members-test-") as name:
        with Command(Path(name), settings).serving() as service:
            members = [
                {"_id": number, "name": f"{number:0200}", "version": 1} for number in range(1, 1001)
            ]
            admin["greedy"]["members"].insert_many(members)
            yield Target(service)
        admin.drop_database("greedy")


def test_greedy_connections_cost_what_is_documented(target: Target) -> None:
    assert target.settled() <= at_rest()
    costs, documented = {}, documented_costs()
    assert documented.keys() == KINDS.keys()
    with ExitStack() as stack:
        # Use up free memory first, and keep all connections open, so that the cost is visible.
        for request, answers in [
            KINDS["is idle"],
            KINDS["sends a header section slowly"],
        ] * FILLING:
            stack.enter_context(target.connect(request(target.token), answers))
        for kind, (request, answers) in KINDS.items():
            data = request(target.token)

            def cost_of(connections: int) -> float:
                before = target.settled()
                for _ in range(connections):
                    stack.enter_context(target.connect(data, answers))  # noqa: B023  # called in this iteration
                return (target.settled() - before) / connections / KIB

            cost_of(WARM_UP)
            measured = enough_connections(documented[kind])
            # A peak, when the worker waits for a processor, costs memory once: further connections
            # use it.
            for _ in range(ATTEMPTS):
                costs[kind] = cost_of(measured)
                if costs[kind] <= documented[kind]:
                    break
    assert {kind: cost for kind, cost in costs.items() if cost > documented[kind]} == {}


def most_memory(settings: Settings) -> int:
    """Return the bytes that a service may use by the sum in docs/operations.md."""
    costs, limits = documented_costs(), settings.server.limits
    worker = (
        at_rest()
        + limits.connections * max(costs[kind] for kind in costs if kind not in NEEDS_TOKEN) * KIB
        + limits.body_buffer_bytes
        + limits.response_buffer_bytes
        + 64 * KIB * KIB  # to hash a password
    )
    return settings.server.processes * worker


def test_documented_sum_matches_the_default_settings() -> None:
    (stated,) = re.findall(r"\*\*([0-9]+) MiB per worker\*\*", DOCUMENTATION)
    assert int(stated) == round(most_memory(Settings()) / KIB / KIB)


def test_memory_limits_of_deployments_suffice() -> None:
    service = read_yaml("docker/compose.yaml")["services"]["members"]
    settings = settings_with(DEPLOY / "docker/settings.yaml", service["environment"])
    assert most_memory(settings) <= in_bytes(service["mem_limit"])

    pod = read_yaml("kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    settings = settings_with(DEPLOY / "kubernetes/settings.yaml")
    assert most_memory(settings) <= in_bytes(pod["containers"][0]["resources"]["limits"]["memory"])
    (spool,) = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
    per_worker = settings.members.import_spool_mib * KIB * KIB
    assert settings.server.processes * per_worker <= in_bytes(spool["sizeLimit"])


def in_bytes(text: str) -> int:
    """Return a size of Docker or Kubernetes, such as 1g or 512Mi."""
    found = re.fullmatch(r"([0-9]+)([MmGg])i?", text)
    assert found
    return int(found[1]) * {"m": KIB**2, "g": KIB**3}[found[2].lower()]
