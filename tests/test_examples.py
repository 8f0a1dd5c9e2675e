"""The programs in examples/, against a running service, and through a proxy."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxies import PROGRAMS, proxying
from tests.support.service import ROOT, Command, Service
from tornado_members.embedded.private_servers import PrivateServers

EXAMPLES = ROOT / "examples"
RUNNERS = {".py": [sys.executable], ".mjs": ["node"], ".sh": ["bash"], ".go": ["go", "run"]}
SECONDS = 60


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tornado-members-examples-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def command(folder: Path, servers: PrivateServers) -> Command:
    return Command(
        folder,
        {
            "mongodb": {"uri": servers.mongodb_uri, "database": "examples"},
            "cache": {"servers": servers.cache_servers},
        },
    )


@pytest.fixture(scope="module")
def service(command: Command) -> Iterator[Service]:
    with command.serving() as service:
        yield service


def run(arguments: list[str], command: Command, url: str) -> str:
    """Run a program; return its output."""
    token = command.token("--rights", "3")
    finished = subprocess.run(
        arguments,
        env={**os.environ, "MEMBERS_URL": url, "MEMBERS_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_each_example_is_described_and_tested() -> None:
    names = {file.name for file in EXAMPLES.iterdir() if file.suffix in RUNNERS}
    described = (EXAMPLES / "README.md").read_text()
    assert {name for name in names if f"`{name}`" in described} == names
    assert names == {*DAYS, "python_client.py"}


DAYS = (
    "day_with_curl.sh",
    "day_with_requests.py",
    "day_with_httpx.py",
    "day_with_aiohttp.py",
    "day_with_fetch.mjs",
    "day_with_go.go",
)


def test_curl_client_creates_reads_changes_and_deletes(command: Command, service: Service) -> None:
    done = run(["bash", str(EXAMPLES / DAYS[0])], command, service.url)
    assert done == "curl: 3 members made, read, changed and deleted\n"


@pytest.fixture(scope="module", params=["direct", "nginx", "haproxy", "envoy", "caddy", "traefik"])
def front(
    request: pytest.FixtureRequest, folder: Path, service: Service
) -> Iterator[tuple[str, str]]:
    """The name of what is in front of the service, and its address."""
    if request.param == "direct":
        yield "direct", service.url
        return
    program = PROGRAMS[request.param]
    if not program.find():
        pytest.skip(f"{program.name} is not installed (scripts/setup --deploy)")
    (own := folder / program.name).mkdir()
    with proxying(program, own, [service, service]) as proxy:
        yield program.name, proxy.url


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*DAYS, "python_client.py"])
def test_example_runs_behind_each_proxy(
    name: str,
    front: tuple[str, str],
    command: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = RUNNERS[Path(name).suffix]
    if not shutil.which(runner[0]):
        pytest.skip(f"{runner[0]} is not installed (scripts/setup --deploy)")
    monkeypatch.setenv("GOCACHE", str(folder / "go"))
    done = run([*runner, str(EXAMPLES / name)], command, front[1])
    expected = "3 members made, read, changed and deleted" if name in DAYS else "changed"
    assert expected in done


LOADS = {
    "ab": ["-q", "-n", "2000", "-c", "16", "-k"],
    "wrk": ["-t1", "-c16", "-d2s"],
    "h2load": ["-n", "2000", "-c", "4", "-m", "8"],
}
# What each program prints if a response was an error.
GOOD = {
    "ab": ["Failed requests:        0\n", "Complete requests:      2000\n"],
    "wrk": ["requests in 2."],
    "h2load": ["2000 done, 2000 succeeded, 0 failed"],
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("program", LOADS)
def test_load_generator_counts_no_error(
    program: str, front: tuple[str, str], command: Command, service: Service
) -> None:
    name, url = front
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    if program == "h2load" and name != "envoy":
        pytest.skip("of these, only Envoy speaks HTTP/2 without TLS")
    status, member = service("POST", "/members", {"name": f"Load {program} {url}"})
    assert status == 201
    token = command.token("--rights", "1")
    target = f"{url}/members/{member['memberId']}"
    done = run(
        [program, *LOADS[program], "-H", f"Authorization: Bearer {token}", target], command, url
    )
    assert all(text in done for text in GOOD[program]), done
    assert "Non-2xx" not in done
