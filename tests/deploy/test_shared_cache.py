"""A shared cache in front of the service: Varnish, with its own rules and with incorrect ones."""

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import free_port, with_parent_death_signal

pytestmark = pytest.mark.exhaustive

# Each looks up every read in the cache, although it has a token.
CARELESS: Final = 'sub vcl_recv { if (req.method == "GET") { return (hash); } }'
# It keeps responses although they are private.
RECKLESS: Final = (
    CARELESS
    + """
sub vcl_backend_response {
    if (beresp.http.Cache-Control !~ "no-store") {
        set beresp.ttl = 60s;
        return (deliver);
    }
}"""
)
RULES: Final = {"its own": "", "careless": CARELESS, "reckless": RECKLESS}
PATHS: Final = ("/members/1", "/members", "/members/by-name?name=Ada", "/members/999", "/caller")


class Cache:
    """A running Varnish."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(
        self, method: str, path: str, token: str | None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a request; return the status, the headers and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        body = sent.pop("body", None)
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.headers, content


@contextmanager
def caching(service: Service, rules: str) -> Iterator[Cache]:
    """Run Varnish in front of a service."""
    program = shutil.which("varnishd", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("varnishd is not installed (scripts/setup --deploy)")
    target, port = urlsplit(service.url), free_port()
    backend = f'backend members {{ .host = "{target.hostname}"; .port = "{target.port}"; }}'
    with tempfile.TemporaryDirectory(prefix="tornado-members-varnish-") as folder:
        (file := Path(folder) / "rules.vcl").write_text(f"vcl 4.1;\n{backend}\n{rules}\n")
        log = Path(folder) / "log"
        options = ["-F", "-j", "none", "-n", f"{folder}/state", "-f", str(file)]
        options += ["-a", f"127.0.0.1:{port}", "-s", "malloc,32m"]
        with log.open("w") as output:
            process = subprocess.Popen(
                with_parent_death_signal([program, *options]),
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + 30
            while not _listens(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield Cache(port)
        finally:
            process.terminate()
            process.wait(30)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tornado-members-shared-cache-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def command(folder: Path, servers: PrivateServers) -> Command:
    mongodb = {"uri": servers.mongodb_uri, "database": "shared_cache"}
    return Command(folder, {"mongodb": mongodb, "cache": {"servers": servers.cache_servers}})


@pytest.fixture(scope="module")
def service(command: Command) -> Iterator[Service]:
    with command.serving() as service:
        service("PUT", "/members/by-name?name=Ada", {"name": "Ada"})
        yield service


@pytest.fixture(scope="module")
def callers(command: Command) -> dict[str, str | None]:
    """Tokens that may write, read, and do nothing; and none."""
    tokens = {str(rights): command.token("--rights", str(rights)) for rights in (3, 1, 0)}
    return {**tokens, "none": None}


@pytest.fixture(scope="module", params=RULES)
def rules(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cache(rules: str, service: Service) -> Iterator[Cache]:
    with caching(service, RULES[rules]) as found:
        yield found


def test_no_caller_receives_the_response_of_another(
    cache: Cache, service: Service, callers: dict[str, str | None]
) -> None:
    direct = Cache(urlsplit(service.url).port or 0)
    for path in PATHS:
        expected = {name: _essence(direct("GET", path, token)) for name, token in callers.items()}
        assert len({status for status, _ in expected.values()}) > 1
        for _ in range(3):
            for name, token in callers.items():
                found = _essence(cache("GET", path, token))
                assert found == expected[name], (path, name)


def _essence(answer: tuple[int, http.client.HTTPMessage, bytes]) -> tuple[int, Any]:
    """Return the status and the body without the request's id."""
    found = json.loads(answer[2])
    if isinstance(found, dict):
        found.pop("requestId", None)
    return answer[0], found


def test_conditional_requests_and_fresh_reads_through_a_cache(
    cache: Cache, rules: str, callers: dict[str, str | None]
) -> None:
    if rules == "reckless":
        pytest.skip("these rules keep what they must not keep")
    token = callers["3"]
    patch = {"Content_Type": "application/merge-patch+json"}
    for number in range(5):
        _, headers, _ = cache("GET", "/members/1", token)
        etag = headers["ETag"]
        assert etag.startswith('"')
        assert cache("GET", "/members/1", token, If_None_Match=etag)[0] == 304
        body = json.dumps({"phone": f"555-010{number}"})
        for status in (200, 412):
            assert cache("PATCH", "/members/1", token, body=body, If_Match=etag, **patch)[0] == (
                status
            )
        assert json.loads(cache("GET", "/members/1", callers["1"])[2])["phone"] == (
            f"555-010{number}"
        )
