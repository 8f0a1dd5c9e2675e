"""The private servers of one data folder, and their users."""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from logging import getLogger
from pathlib import Path
from typing import Self, TextIO

import psutil

from tornado_members.embedded.programs import (
    MEMCACHED_MISSING,
    REPLICA_SET,
    EmbeddedError,
    await_memcached,
    await_mongod,
    find_memcached,
    free_port,
    memcached_command,
    mongod_command,
    with_parent_death_signal,
)
from tornado_members.settings import Settings

log = getLogger(__name__)

_STOP_SECONDS = 15.0
_EXIT_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the private servers, or None for a server that does not run."""

    mongodb: int | None = None
    memcached: int | None = None


class PrivateServers:
    """The private servers of one data folder: a context manager that starts or joins them.

    Entering raises EmbeddedError.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        mongodb: bool = True,
        memcached: bool = True,
        die_with_parent: bool = False,
    ) -> None:
        """`die_with_parent` ends them if this process is killed. Only tests are sole users."""
        self._folder = data_dir.resolve()  # identifies the servers
        self._requires_mongodb = mongodb
        self._requires_memcached = memcached
        self._die_with_parent = die_with_parent
        self._users: TextIO | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._monitored: dict[str, psutil.Process | None] = {}
        self.ports = Ports()

    def __enter__(self) -> Self:
        if not (self._requires_mongodb or self._requires_memcached):
            return self
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._start_lock():
                self._join()
        except OSError as error:
            raise EmbeddedError(f"data_dir: {error.filename}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._users is not None:
            with self._start_lock():
                self._leave()

    @property
    def mongodb_uri(self) -> str:
        """The URI of the private MongoDB."""
        return f"mongodb://127.0.0.1:{self.ports.mongodb}/?replicaSet={REPLICA_SET}"

    @property
    def cache_servers(self) -> tuple[str, ...]:
        """The address of the private Memcached, if there is one."""
        return (f"127.0.0.1:{self.ports.memcached}",) if self.ports.memcached else ()

    def addresses_for(self, settings: Settings) -> tuple[str, tuple[str, ...]]:
        """Return the addresses of MongoDB and of the cache: those in the settings, or these."""
        mongodb, servers = settings.mongodb, settings.cache.servers
        return (
            self.mongodb_uri if mongodb.embedded else mongodb.connection_uri(),
            self.cache_servers if servers == "embedded" else servers,
        )

    def restart_dead(self) -> list[str]:
        """Restart servers that died, on the same ports; return their names.

        Raises EmbeddedError.
        """
        self._reap()
        if all(_is_running(process) for process in self._monitored.values()):
            return []
        dead = [name for name, process in self._monitored.items() if not _is_running(process)]
        with self._start_lock():
            self._start_missing()
        return dead

    def processes(self) -> list[psutil.Process]:
        """The running servers of this folder, whichever process started them."""
        return [*self._running("mongod"), *self._running("memcached")]

    def _join(self) -> None:
        self._users = (self._folder / "users.lock").open("a")
        try:
            if _try_lock(self._users):
                self._stop_servers()
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self._start_missing()
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        if self._users is None:
            return
        # A user that is being killed holds its lock until the kernel has removed the process.
        deadline = time.monotonic() + _EXIT_SECONDS
        while not (alone := _try_lock(self._users)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if alone:
            self._stop_servers()
        self._users.close()
        self._users = None

    def _start_missing(self) -> None:
        """Start the servers that this user or an earlier one requires and that do not run."""
        mongodb, memcached = astuple(self._recorded_ports())
        if (self._requires_mongodb or mongodb) and not self._running("mongod"):
            mongodb = self._start_mongod(mongodb)
        if (self._requires_memcached or memcached) and not self._running("memcached"):
            memcached = self._start_memcached(memcached)
        self.ports = Ports(mongodb, memcached)
        # A server that died meanwhile is monitored as well, and restarted at the next check.
        running = {process.name(): process for process in self.processes()}
        ports = {"mongod": mongodb, "memcached": memcached}
        self._monitored = {name: running.get(name) for name, port in ports.items() if port}
        draft = self._ports_file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self.ports)))
        draft.replace(self._ports_file)

    def _start_mongod(self, port: int | None) -> int:
        data = self._path_of("mongod")
        data.mkdir(exist_ok=True)
        # The replica set identifies its member by the port; keeping it saves a reconfiguration.
        port = port or _last_port(data / "port")
        await_mongod(port, self._spawn("mongod", mongod_command(data, port)))
        return port

    def _start_memcached(self, port: int | None) -> int | None:
        program = find_memcached()
        if program is None:
            log.warning("%s The service runs without a cache.", MEMCACHED_MISSING)
            return None
        # The database has the address; keeping it saves the replacement of the list of servers.
        port = port or _last_port(self._folder / "memcached.port")
        command = memcached_command(program, self._path_of("memcached"), port)
        await_memcached(port, self._spawn("memcached", command))
        return port

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a server in its own session, so that Ctrl-C reaches only this process."""
        if self._die_with_parent:
            command = with_parent_death_signal(command)
        with (self._folder / f"{name}.out").open("ab") as output:
            child = subprocess.Popen(  # noqa: S603  # programs.py has found it
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def _stop_servers(self) -> None:
        """Stop every server of this folder, including those left behind."""
        processes = self.processes()
        for process in processes:
            _signal(process, "terminate")
        _, alive = psutil.wait_procs(processes, timeout=_STOP_SECONDS)
        for process in alive:
            _signal(process, "kill")
        psutil.wait_procs(alive, timeout=_STOP_SECONDS)
        self._reap()
        self._ports_file.unlink(missing_ok=True)

    def _reap(self) -> None:
        """Reap children that have ended, because a zombie must not count as running."""
        self._children = [child for child in self._children if child.poll() is None]

    def _running(self, name: str) -> list[psutil.Process]:
        """Return this user's processes of a server that have its path as an argument."""
        self._reap()
        path, owner = str(self._path_of(name)), os.geteuid()
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.name() == name
                    and path in process.cmdline()
                    and process.uids().effective == owner
                ):
                    found.append(process)
        return found

    def _path_of(self, name: str) -> Path:
        return self._folder / {"mongod": "mongodb", "memcached": "memcached.pid"}[name]

    @property
    def _ports_file(self) -> Path:
        return self._folder / "ports.json"

    def _recorded_ports(self) -> Ports:
        try:
            return Ports(**json.loads(self._ports_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Ports()

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        """Hold the lock under which one process at a time starts, joins or leaves."""
        with (self._folder / "start.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def servers_for(settings: Settings) -> PrivateServers:
    """Return the private servers that the settings require: both, one or none."""
    return PrivateServers(
        settings.data_dir,
        mongodb=settings.mongodb.embedded,
        memcached=settings.cache.servers == "embedded",
    )


def _last_port(file: Path) -> int:
    """Return the port in a file if it is free, otherwise another one, which the file has then."""
    preferred = None
    with suppress(OSError, ValueError):
        preferred = int(file.read_text())
    port = free_port(preferred)
    file.write_text(str(port))
    return port


def _is_running(process: psutil.Process | None) -> bool:
    try:
        return process is not None and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, method: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, method)()


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
