"""Two services behind each reverse proxy of deploy/proxies, as it is configured there.

`scripts/setup --deploy` installs the proxies.
"""

import http.client
import json
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import psutil
import pytest

from tests.support.certificates import make_certificates
from tests.support.proxies import COMPRESSING, IMPATIENT, PROGRAMS, Program, proxying, speaking_tls
from tests.support.proxy_client import ADDRESS, Load, ProxyClient
from tests.support.service import Command, Service
from tests.support.waiting import wait_for
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import free_port

pytestmark = pytest.mark.exhaustive

ROWS = 5000
SLOW_ROWS = 10_000  # an export of 900 KB, and changes of 2.5 MB
SLOW_SECONDS = 15
MOST_GROWTH = 32 * 2**20  # of a proxy and both services, which also import meanwhile
CHANGES = "/members/changes"
# Go's HTTP server discards up to 256 KiB of a request once its response has begun. These programs
# also compress a response without a change to its ETag.
IN_GO = ("caddy", "traefik")


def make_command(
    folder: Path, servers: PrivateServers, host: str, ports: tuple[int, int], **server: Any
) -> Command:
    """Return the command of a service that listens on a host and on the ports of API and admin."""
    folder.mkdir()
    settings = {
        "data_dir": str(folder.parent / "data"),  # with the keys, which the services share
        "server": {
            "host": host,
            "port": ports[0],
            "trusted_proxies": ["127.0.0.1"],
            "proxied_etags": True,
            "unready_seconds": 3,
            **server,
        },
        "admin": {"host": host, "port": ports[1]},
        "mongodb": {"uri": servers.mongodb_uri, "database": "proxies"},
        "cache": {"servers": servers.cache_servers},
        "log": {"format": "json"},
    }
    return Command(folder, settings)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tornado-members-proxies-") as name:
        yield Path(name)


@dataclass
class Pair:
    """Two running services."""

    commands: list[Command]
    services: list[Service]
    running: ExitStack

    def restart(self, index: int) -> None:
        """Stop a service and start it again."""
        self.services[index].stop()
        self.services[index] = self.running.enter_context(self.commands[index].serving())


@contextmanager
def running_pair(folder: Path, servers: PrivateServers, **server: Any) -> Iterator[Pair]:
    folder.mkdir()
    ports = (free_port(), free_port())
    commands = [
        make_command(folder / host, servers, host, ports, **server)
        for host in ("127.0.0.1", "127.0.0.2")
    ]
    with ExitStack() as running:
        services = [running.enter_context(command.serving()) for command in commands]
        yield Pair(commands, services, running)


@pytest.fixture(scope="module")
def pair(root: Path, servers: PrivateServers) -> Iterator[Pair]:
    with running_pair(root / "pair", servers) as pair:
        yield pair


@pytest.fixture(scope="module")
def impatient_pair(root: Path, servers: PrivateServers) -> Iterator[Pair]:
    """Services that close connections after a second without a request."""
    with running_pair(root / "impatient", servers, limits={"idle_seconds": 1}) as pair:
        yield pair


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Program:
    found = PROGRAMS[request.param]
    if not found.find():
        pytest.skip(f"{found.name} is not installed (scripts/setup --deploy)")
    return found


@dataclass
class Bed:
    """Two services, and the proxy in front of them."""

    name: str  # of the proxy
    client: ProxyClient
    pair: Pair


@pytest.fixture(scope="module")
def bed(program: Program, root: Path, pair: Pair) -> Iterator[Bed]:
    (folder := root / program.name).mkdir()
    token = pair.commands[0].token("--rights", "3")
    with proxying(program, folder, pair.services) as proxy:
        yield Bed(program.name, ProxyClient(proxy, token), pair)


def test_connections_to_the_services_are_kept(bed: Bed) -> None:
    path = bed.client.make_member(f"Kept {bed.name}")
    connection = bed.client.connect()
    before = connections(bed)
    for _ in range(300):
        connection.request("GET", path, headers=bed.client.headers)
        response = connection.getresponse()
        assert response.read()
        assert response.status == 200
    connection.close()
    assert connections(bed) - before <= 8


def connections(bed: Bed) -> int:
    """Return the number of connections to both services, with those closed in the last minute."""
    port = urlsplit(bed.pair.services[0].url).port
    return [
        connection.raddr[1] for connection in psutil.net_connections("tcp") if connection.raddr
    ].count(port or 0)


def test_address_of_a_client_cannot_be_forged(bed: Bed) -> None:
    connection = bed.client.connect()
    for number, forged in enumerate(["198.51.100.9", "127.0.0.1", "198.51.100.9, ::1", "unknown"]):
        request_id = f"{bed.name}-{number}"
        headers = {"X-Forwarded-For": forged, "X-Request-Id": request_id}
        connection.request("GET", "/absent", headers={**bed.client.headers, **headers})
        assert connection.getresponse().read()
        assert logged_address(bed, request_id) == ADDRESS
    connection.close()


def test_address_of_an_ipv6_client_cannot_be_forged(bed: Bed) -> None:
    connection = http.client.HTTPConnection(*bed.client.proxy.address6, timeout=30)
    headers = {"X-Forwarded-For": "2001:db8::9", "X-Request-Id": f"{bed.name}-6"}
    connection.request("GET", "/absent", headers={**bed.client.headers, **headers})
    assert connection.getresponse().status == 404
    connection.close()
    address = logged_address(bed, f"{bed.name}-6")
    # Envoy replaces the address of a client on its own machine by its own.
    assert address == "::1" or (bed.name == "envoy" and address != "2001:db8::9")


def logged_address(bed: Bed, request_id: str) -> str | None:
    """Return the client's address in the access log."""
    found: list[dict[str, Any]] = []

    def is_logged() -> bool:
        found[:] = [
            json.loads(line)
            for command in bed.pair.commands
            for line in command.log().splitlines()
            if f'"request_id": "{request_id}"' in line
        ]
        return bool(found)

    wait_for(is_logged)
    address: str | None = found[0].get("client_address")
    return address


@pytest.mark.parametrize("results", ["after", "all"])
def test_import_arrives_whole_or_is_visibly_cut_off(bed: Bed, results: str) -> None:
    rows = b"name\n" + b"".join(b"%b %d\n" % (bed.name.encode(), n) for n in range(ROWS))
    lines = bed.client.import_rows(rows, f"on_conflict=skip&results={results}")
    is_whole = len(lines) == ROWS + 1
    assert ("summary" in json.loads(lines[-1])) == is_whole
    assert is_whole == (results == "after" or bed.name not in IN_GO)


def test_slow_readers_lose_nothing_and_take_little_memory(bed: Bed) -> None:
    """An export, and the feed during changes of all members, read at 8 KiB per second at first."""
    rows = b"name\n" + b"".join(b"row %d\n" % n for n in range(SLOW_ROWS))
    bed.client.import_rows(rows, "on_conflict=skip&results=failures,after", pause=0)
    before = memory(bed)
    with SlowReader(bed.client, "/members") as export, SlowReader(bed.client, CHANGES) as feed:
        feed.await_line(b'"ready"')
        changes = b"name,email\n" + b"".join(
            b"row %d,%b%d@example.org\n" % (n, bed.name.encode(), n) for n in range(SLOW_ROWS)
        )
        bed.client.import_rows(changes, "on_conflict=replace&results=failures,after", pause=0)
        growth = 0
        for _ in range(SLOW_SECONDS):
            time.sleep(1)
            growth = max(growth, memory(bed) - before)
        assert not export.has_ended
        export.read_quickly()
        wait_for(lambda: export.has_ended, seconds=120)
        feed.read_quickly()
        last = b'"email":"%b%d@example.org"' % (bed.name.encode(), SLOW_ROWS - 1)
        feed.await_line(last)
    ids = [json.loads(line)["memberId"] for line in export.lines()]
    assert len(ids) >= SLOW_ROWS
    assert ids == sorted(set(ids))
    events = [json.loads(line) for line in feed.lines()]
    assert not [event for event in events if event["event"] in {"lagging", "expired"}]
    addresses = {
        event["data"]["member"]["email"]
        for event in events
        if event["event"] in {"created", "changed"}
    }
    assert addresses >= {f"{bed.name}{n}@example.org" for n in range(SLOW_ROWS)}
    assert growth < MOST_GROWTH


def memory(bed: Bed) -> int:
    """Return the memory of the proxy and of both services in bytes."""
    pids = [bed.client.proxy.pid, *(service.process.pid for service in bed.pair.services)]
    trees = [[process, *process.children(recursive=True)] for process in map(psutil.Process, pids)]
    return sum(process.memory_info().rss for tree in trees for process in tree)


class SlowReader:
    """A client that reads lines of NDJSON slowly, until `read_quickly`."""

    def __init__(self, client: ProxyClient, path: str) -> None:
        self._response: http.client.HTTPResponse
        self._client = client
        self._path = path
        self._quick, self._is_over = threading.Event(), threading.Event()
        self._received = b""
        self.has_ended = False

    def __enter__(self) -> Self:
        # A large buffer of the system would take the whole response.
        self._socket = self._client.connect_socket(receive_buffer=8192)
        headers = {"Accept": "application/x-ndjson"}
        self._socket.sendall(self._client.head("GET", self._path, headers))
        self._response = http.client.HTTPResponse(self._socket)
        self._response.begin()
        assert self._response.status == 200
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._response.close()
        self._socket.close()

    def _read(self) -> None:
        try:
            while not self._is_over.is_set():
                received = self._response.read1(65536 if self._quick.is_set() else 1024)
                if not received:
                    break
                self._received += received
                self._quick.wait(0.125)
        except (OSError, http.client.IncompleteRead):
            pass
        self.has_ended = True

    def read_quickly(self) -> None:
        """Read as fast as possible from now on."""
        self._quick.set()

    def await_line(self, text: bytes) -> None:
        """Wait until a text has arrived."""
        wait_for(lambda: text in self._received, seconds=120)

    def lines(self) -> list[bytes]:
        """Return the complete lines that have arrived."""
        return [line for line in self._received.split(b"\n")[:-1] if line]


def test_expect_continue_is_answered(bed: Bed) -> None:
    body = json.dumps({"name": f"Expected {bed.name}"}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    with bed.client.connect_socket() as connection, connection.makefile("rb") as received:
        connection.sendall(
            bed.client.head("POST", "/members", {**headers, "Expect": "100-continue"})
        )
        status = received.readline()
        assert status.startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        while status.startswith(b"HTTP/1.1 100"):  # Caddy's own, and that of the service
            while received.readline() != b"\r\n":
                pass
            status = received.readline()
        assert status.startswith(b"HTTP/1.1 201")


def test_reload_under_load_loses_no_request(bed: Bed) -> None:
    path = bed.client.make_member(f"Reloaded {bed.name}")
    with Load(bed.client, path) as load:
        for service in bed.pair.services:
            workers = psutil.Process(service.process.pid).children()
            service.process.send_signal(signal.SIGHUP)
            _, alive = psutil.wait_procs(workers, timeout=30)
            assert not alive
        time.sleep(0.5)
    assert load.failures == []
    assert set(load.statuses) == {200}


def test_restart_of_one_service_under_load_loses_no_request(bed: Bed) -> None:
    path = bed.client.make_member(f"Restarted {bed.name}")
    with Load(bed.client, path) as load:
        for index in (0, 1):
            bed.pair.restart(index)
            # The other one may stop when the proxy uses this one.
            wait_for(partial(has_responded, bed.pair.services[index]))
    assert load.failures == []
    assert set(load.statuses) == {200}


def has_responded(service: Service) -> bool:
    """Return True if a service has sent a successful response."""
    _, text = service.admin("/metrics")
    found = re.findall(r'^members_http_requests_total{.*status="200".*} (\S+)$', text, re.MULTILINE)
    return any(float(count) for count in found)


@pytest.fixture(scope="module")
def compressing(program: Program, root: Path, pair: Pair) -> Iterator[ProxyClient]:
    """A client of the proxy, which compresses responses."""
    (folder := root / f"{program.name}-compressing").mkdir()
    token = pair.commands[0].token("--rights", "3")
    with proxying(program, folder, pair.services, COMPRESSING[program.name]) as proxy:
        yield ProxyClient(proxy, token)


def test_etag_of_a_compressing_proxy_is_accepted(compressing: ProxyClient, bed: Bed) -> None:
    path = compressing.make_member(f"Compressed {bed.name}")
    gzip = {"Accept-Encoding": "gzip"}
    status, headers, _ = compressing("GET", path, headers=gzip)
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    etag = headers["ETag"]
    assert etag == ('"1"' if bed.name in IN_GO else 'W/"1"')
    status, _, _ = compressing("GET", path, headers={**gzip, "If-None-Match": etag})
    assert status == 304
    body = {"name": f"Changed {bed.name}"}
    for expected in (200, 412):
        status, _, content = compressing("PUT", path, body, {"If-Match": etag})
        assert status == expected, content


@pytest.mark.parametrize("proxy_waits", ["shorter", "longer"])
def test_idle_connections_cost_no_request(
    program: Program, root: Path, impatient_pair: Pair, proxy_waits: str
) -> None:
    """If the proxy waits for longer than the service, only reads are safe: it repeats those."""
    (folder := root / f"{program.name}-{proxy_waits}").mkdir()
    changes = IMPATIENT[program.name] if proxy_waits == "shorter" else {}
    token = impatient_pair.commands[0].token("--rights", "3")
    with proxying(program, folder, impatient_pair.services, changes) as proxy:
        client = ProxyClient(proxy, token)
        path = client.make_member(f"Idle {program.name} {proxy_waits}")
        connections = [client.connect() for _ in range(8)]
        patch = {**client.headers, "Content-Type": "application/merge-patch+json"}
        statuses = []
        for turn in range(8):
            time.sleep(0.99 + 0.002 * turn)  # when the services close the connections
            for index, connection in enumerate(connections):
                if proxy_waits == "shorter" and index == 0:
                    connection.request("PATCH", path, f'{{"phone": "555-010{turn}"}}', patch)
                else:
                    connection.request("GET", path, headers=client.headers)
            for connection in connections:
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
        for connection in connections:
            connection.close()
    assert set(statuses) == {200}


@pytest.fixture(scope="module")
def secure_pair(root: Path, servers: PrivateServers) -> Iterator[Pair]:
    """Services that speak TLS, and have their paths below /api."""
    _, server = make_certificates(root, "members.internal")
    tls = {"certificate": str(server), "key": str(server)}
    with running_pair(root / "secure", servers, tls=tls, base_path="/api") as pair:
        yield pair


def test_services_with_tls_and_a_base_path(program: Program, root: Path, secure_pair: Pair) -> None:
    (folder := root / f"{program.name}-tls").mkdir()
    token = secure_pair.commands[0].token("--rights", "3")
    changes = speaking_tls(program, root / "ca.pem")
    with proxying(
        program, folder, secure_pair.services, changes, probe="/api/openapi.json"
    ) as proxy:
        client = ProxyClient(proxy, token)
        status, headers, body = client("POST", "/api/members", {"name": f"../{program.name}"})
        assert (status, headers["Location"][:13]) == (201, "/api/members/"), body
        assert client("GET", headers["Location"])[::2] == (200, body)
        name = quote(f"../{program.name}", safe="")
        assert client("GET", f"/api/members/by-name?name={name}")[::2] == (200, body)
        assert client("GET", "/members/1")[0] == 404
