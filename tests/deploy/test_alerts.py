"""Each alert fires for its fault and ends with it, in a real Prometheus and Alertmanager.

`deploy/prometheus/alerts.yaml` is used with shorter durations.
"""

import json
import shutil
import signal
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import psutil
import pymongo
import pytest

from tests.deploy.test_prometheus import PANELS, RULES, filled_in
from tests.support.mongodb import failing, locked
from tests.support.prometheus import PROGRAMS, Monitoring, monitoring
from tests.support.service import Command, Service
from tests.support.tokens import make_token, public_jwk
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import free_port
from tornado_members.settings import Auth

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)),
        reason="Prometheus is not installed (scripts/setup --deploy)",
    ),
]

Admin = pymongo.MongoClient[dict[str, Any]]
REMOTE: Final = "https://remote.example/"


class Keys:
    """The keys of an issuer, which are missing until `serve` is called."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/jwks"

    def serve(self) -> None:
        """Serve the keys from now on."""
        body = json.dumps({"keys": [public_jwk("RS256")]}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        server = self._stack.enter_context(ThreadingHTTPServer(("127.0.0.1", self._port), Handler))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)


@dataclass
class Bed:
    """A service under a little load, its servers, and its monitoring."""

    service: Service
    monitoring: Monitoring
    servers: PrivateServers
    admin: Admin
    keys: "Keys"

    @property
    def worker(self) -> psutil.Process:
        (worker,) = psutil.Process(self.service.process.pid).children()
        return worker

    def server(self, name: str) -> psutil.Process:
        """Return the process of MongoDB or Memcached."""
        return next(process for process in self.servers.processes() if process.name() == name)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tornado-members-alerts-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def bed(folder: Path, servers: PrivateServers, admin: Admin) -> Iterator[Bed]:
    with ExitStack() as stack:
        keys = Keys(stack)
        remote = {"issuer": REMOTE, "audience": "members", "jwks": {"url": keys.url}}
        own = Auth().model_dump(mode="json", include={"issuers"})["issuers"]
        settings = {
            "mongodb": {"uri": servers.mongodb_uri, "database": "alerts", "timeout_ms": 1000},
            "cache": {"servers": servers.cache_servers},
            "auth": {"issuers": [*own, remote]},
        }
        service = stack.enter_context(Command(folder, settings).serving())
        found = stack.enter_context(monitoring(folder, [service]))
        stack.enter_context(load(service))
        yield Bed(service, found, servers, admin, keys)


@contextmanager
def load(service: Service) -> Iterator[None]:
    """Read a member and a list, some twenty times per second."""
    status, member = service("POST", "/members", {"name": "Ada"})
    assert status == 201
    is_over = threading.Event()

    def read() -> None:
        while not is_over.wait(0.05):
            with suppress(OSError):
                service("GET", f"/members/{member['memberId']}")
                service("GET", "/members?limit=1")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Stop a process by SIGSTOP."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def repeated(action: Callable[[], object], pause: float) -> Iterator[None]:
    """Do something repeatedly."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(pause):
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def send_forged_token(bed: Bed) -> None:
    token = make_token(iss="tornado-members", aud="members", access_rights=3)
    request = urllib.request.Request(
        f"{bed.service.url}/members/1", headers={"Authorization": f"Bearer {token}"}
    )
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=10).close()


def stall(bed: Bed) -> None:
    """Stop the worker for longer than its event loop may be late."""
    with stopped(bed.worker):
        time.sleep(0.25)


@contextmanager
def few_descriptors(bed: Bed) -> Iterator[None]:
    worker = bed.worker
    usual = worker.rlimit(psutil.RLIMIT_NOFILE)
    worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds() + 5, usual[1]))
    try:
        yield
    finally:
        worker.rlimit(psutil.RLIMIT_NOFILE, usual)


@contextmanager
def missing_keys(bed: Bed) -> Iterator[None]:
    """The keys of an issuer are missing from the start, until a server provides them."""
    yield
    bed.keys.serve()


@contextmanager
def followers(bed: Bed, count: int) -> Iterator[None]:
    """Clients that follow the change feed."""
    port = int(bed.service.url.rpartition(":")[2])
    head = (
        f"GET /members/changes HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {bed.service._token}\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            client.sendall(head.encode())
            received = b""
            while b"event: ready" not in received:
                received += client.recv(4096)
        yield


@contextmanager
def late_feed(bed: Bed) -> Iterator[None]:
    """A change is sent seven seconds after it was made; the next one in time."""

    def change_member() -> None:
        bed.admin["alerts"]["members"].update_one({}, {"$inc": {"version": 1}})

    with followers(bed, 1):
        with stopped(bed.worker):
            change_member()
            time.sleep(7)
        yield
        change_member()
        bed.monitoring.await_state("MembersFeedLagging", "resolved")


@contextmanager
def lost_feed(bed: Bed) -> Iterator[None]:
    """MongoDB has lost the cursor of the feed, and that of the invalidator."""
    with (
        followers(bed, 20),
        failing(bed.admin, 2, failCommands=["getMore"], errorCode=286),
    ):
        yield


FAULTS: Final[Mapping[str, Callable[[Bed], AbstractContextManager[None]]]] = {
    "MembersNotReady": lambda bed: stopped(bed.server("mongod")),
    "MembersErrors": lambda bed: stopped(bed.server("mongod")),
    "MembersSlow": lambda bed: stopped(bed.server("mongod")),
    "MembersChangeStreamNotFollowed": lambda bed: stopped(bed.server("mongod")),
    "MembersChangeStreamStalled": lambda bed: failing(
        bed.admin, 10**6, failCommands=["aggregate", "getMore"], errorCode=6
    ),
    "MembersNotWritable": lambda bed: locked(bed.admin),
    "MembersChangeStreamHistoryLost": lambda bed: failing(
        bed.admin, 1, failCommands=["getMore"], errorCode=286
    ),
    "MembersCacheNodeBypassed": lambda bed: stopped(bed.server("memcached")),
    "MembersCacheHitRatioLow": lambda bed: stopped(bed.server("memcached")),
    "MembersFeedLagging": late_feed,
    "MembersFeedDisconnections": lost_feed,
    "MembersIssuerKeysStale": missing_keys,
    "MembersTokensRefused": lambda bed: repeated(lambda: send_forged_token(bed), 0.1),
    "MembersEventLoopLagging": lambda bed: repeated(lambda: stall(bed), 0.05),
    "MembersFileDescriptorsHigh": few_descriptors,
}

FROM_THE_START: Final = ("MembersIssuerKeysStale",)


@pytest.mark.parametrize("alert", [rule["alert"] for rule in RULES])
def test_alert_fires_and_ends(bed: Bed, alert: str) -> None:
    if alert not in FROM_THE_START:  # an earlier test's fault may have caused it, too
        bed.monitoring.await_state(alert, "resolved")
    with FAULTS[alert](bed):
        bed.monitoring.await_state(alert, "firing")
    bed.monitoring.await_state(alert, "resolved")


def test_each_query_of_the_dashboard_returns_data(bed: Bed) -> None:
    """During faults, there is something to show for each."""
    queries = {filled_in(target["expr"]) for panel in PANELS for target in panel["targets"]}
    with stopped(bed.server("mongod")):
        bed.monitoring.await_state("MembersErrors", "firing")
    with stopped(bed.server("memcached")):
        send_forged_token(bed)
        deadline = time.monotonic() + 30
        while empty := [query for query in sorted(queries) if not bed.monitoring.query(query)]:
            assert time.monotonic() < deadline, empty
            time.sleep(0.5)
