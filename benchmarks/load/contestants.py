"""The contestants: the service in each of its forms, and services of other frameworks."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load.bed import AUDIENCE, ISSUER, Bed, Cores
from benchmarks.load.blocking_client import BlockingClient
from benchmarks.load.scenarios import Scenario
from tornado_members.embedded.programs import free_port, with_parent_death_signal
from tornado_members.settings import MongoDB, Server

ROOT = Path(__file__).parent.parent.parent
PEERS_VENV = ROOT / ".venv-bench"

_START_SECONDS = 240  # the first start on members that others wrote folds their names
_STOP_SECONDS = 15

# docs/decisions/peers.md explains these options.
_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "{processes}")
PEERS: Mapping[str, tuple[str, ...]] = {
    "fastapi": (
        *("uvicorn", "fastapi_app:app", "--port", "{port}", "--workers", "{processes}"),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ),
    "tornado": ("python", "tornado_app.py"),
    "flask": (*_GUNICORN, "--worker-class", "gthread", "--threads", "4", "flask_app:app"),
    "eve": (*_GUNICORN, "--worker-class", "gthread", "--threads", "4", "eve_app:app"),
}
# Sends the same bytes to each request: the lower bound of any server in Python.
BARE = "bare"
# The same with a RequestHandler on the service's HTTP server: the lower bound of any handler.
TRIVIAL = "trivial"
TITLES = {
    BARE: "bare protocol, uvloop",
    TRIVIAL: "trivial RequestHandler",
    "fastapi": "FastAPI, uvicorn",
    "tornado": "plain Tornado",
    "flask": "Flask, gunicorn",
    "eve": "Eve, gunicorn (no cache)",
}


class NotStarted(Exception):
    """A contestant does not run. The message states why."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server to be started. Its database has the same name."""

    name: str
    title: str
    transport: str | None = None  # of the service; None for a peer
    driver: str | None = None
    # In addition to the defaults.
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)
    module: str = "tornado_members"  # that starts the service
    python: str = sys.executable  # that runs it
    scenarios: frozenset[str] | None = None  # that it can serve; None for all

    @property
    def is_ours(self) -> bool:
        """True for the service, False for a peer."""
        return self.transport is not None

    @property
    def has_cache(self) -> bool:
        """True if it reads Memcached."""
        return self.name != "eve"

    @property
    def is_checked(self) -> bool:
        """True if its responses contain members, so that they can be compared with MongoDB."""
        return self.name not in (BARE, TRIVIAL)

    def serves(self, scenario: Scenario) -> bool:
        """True if it serves the requests of a scenario."""
        if self.scenarios is not None and scenario.name not in self.scenarios:
            return False
        return self.is_ours or scenario.peers is None or self.name in scenario.peers

    def command(self, bed: Bed, port: int, processes: int) -> list[str]:
        """Return its command line."""
        if not self.is_checked:
            script = Path(__file__).parent.parent / "peers" / f"{self.name}.py"
            return [sys.executable, str(script), str(port)]
        if self.is_ours:
            config = bed.folder / f"{self.name}.yaml"
            config.write_text(json.dumps(self._settings(bed, port, processes)))  # JSON is YAML
            return [self.python, "-m", self.module, "serve", "--config", str(config)]
        program, *arguments = PEERS[self.name]
        words = [str(PEERS_VENV / "bin" / program), *arguments]
        return [word.format(port=port, processes=processes) for word in words]

    def environment(self, bed: Bed, port: int, processes: int) -> dict[str, str]:
        """Return the environment of a peer; the service has settings."""
        kept = {key: text for key, text in os.environ.items() if not key.startswith("MEMBERS_")}
        peers = {
            "PEER_MONGODB_URI": bed.mongodb_uri,
            "PEER_DATABASE": self.name,
            "PEER_MEMCACHED": bed.memcached,
            "PEER_PUBLIC_KEY": bed.public_pem,
            "PEER_ISSUER": ISSUER,
            "PEER_AUDIENCE": AUDIENCE,
            "PEER_PORT": str(port),
            "PEER_PROCESSES": str(processes),
        }
        uses_package = self.is_ours or self.name == TRIVIAL
        return {**kept, "PYTHONPATH": str(ROOT)} if uses_package else {**kept, **peers}

    def _settings(self, bed: Bed, port: int, processes: int) -> dict[str, Any]:
        """Return the default settings on this bed, without an access log: no peer writes one."""
        issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": bed.jwks}
        return {
            "data_dir": f"{self.name}-data",
            "server": {"port": port, "processes": processes, "transport": self.transport},
            "admin": {"port": 0},
            "mongodb": {"uri": bed.mongodb_uri, "database": self.name, "driver": self.driver},
            "cache": {"servers": [bed.memcached]},
            "auth": {"issuers": [issuer]},
            "log": {"level": "warning"},
            **self.settings,
        }


# Settings of a service in production: scripts of another origin, a limit that no caller reaches,
# and traces of one request in a hundred, to a collector that does not respond.
_PRODUCTION = {
    "cors": {"origins": ["https://app.example"]},
    "rate_limit": {"requests_per_minute": 100_000_000},
    "telemetry": {"otlp_endpoint": "http://127.0.0.1:9", "sample_ratio": 0.01},
}


def forms_of_ours() -> list[Contestant]:
    """Return the service with each transport and driver, the default first, and special forms."""
    transports = ["tornado"]
    if find_spec("tornado_members.http1"):
        transports.append("http1")
    transports.sort(key=lambda transport: transport != Server().transport)
    drivers = sorted(("motor", "pymongo"), key=lambda driver: driver != MongoDB().driver)
    forms = [
        Contestant(f"ours-{transport}-{driver}", f"ours: {transport}, {driver}", transport, driver)
        for driver in drivers
        for transport in transports
    ]
    production = replace(
        forms[0], name="ours-production", title="ours: CORS, limit, traces", settings=_PRODUCTION
    )
    logging = replace(
        forms[0],
        name="ours-logging",
        title="ours: log of requests",
        settings={"log": {}},
        scenarios=frozenset({"hit", "pipelined", "handler"}),
    )
    in_memory = replace(
        forms[0],
        name="ours-memory",
        title="ours: cache in memory",
        module="benchmarks.load.in_memory",
        scenarios=frozenset({"handler"}),
    )
    return [*forms, production, logging, in_memory]


def peers() -> list[Contestant]:
    """Return the services of other frameworks, and the lower bounds of any implementation."""
    lowest = Contestant(TRIVIAL, TITLES[TRIVIAL], scenarios=frozenset({"hit", "handler"}))
    return [*(Contestant(name, TITLES[name]) for name in (*PEERS, BARE)), lowest]


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant that responds."""

    contestant: Contestant
    process: psutil.Process
    port: int

    def tree(self) -> list[psutil.Process]:
        """Its processes."""
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def running(contestant: Contestant, bed: Bed, cores: Cores, processes: int) -> Iterator[Running]:
    """Run a contestant on its cores until the end of the block. Raises NotStarted."""
    port = free_port()
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores.servers))]
    command = pinned + contestant.command(bed, port, processes)
    log = bed.folder / f"{contestant.name}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            with_parent_death_signal(command),
            cwd=bed.folder if contestant.is_ours else Path(__file__).parent.parent / "peers",
            env=contestant.environment(bed, port, processes),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this program only, which ends the whole group
        )
    try:
        _await_response(child, port, bed.token(), log)
        if contestant.is_ours:  # it serves while it prepares the searches, which takes a core
            _await_response(child, port, bed.token(), log, "/members?q=ada&limit=1")
        started = Running(contestant, psutil.Process(child.pid), port)
        if processes > 1 and len(started.tree()) < processes:
            raise NotStarted(f"{contestant.title} has one process only")
        yield started
    finally:
        _end(child)


def _await_response(
    child: subprocess.Popen[bytes], port: int, token: str, log: Path, path: str = "/members/1"
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        with suppress(OSError):
            if BlockingClient(port, token).get(path).status == 200:
                return
        time.sleep(0.1)
    output = log.read_text(errors="replace")[-2000:]
    raise NotStarted(f"{log.stem} did not respond to a request. Its output:\n{output}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process and its children, which are in one process group."""
    with suppress(ProcessLookupError):
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
