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
    dying_with_parent,
    find_memcached,
    free_port,
    memcached_command,
    mongod_command,
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
    """The private servers of one data folder. `with` starts or joins them, and leaves them.

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
        self._folder = data_dir.resolve()  # the servers are known by it
        self._wants_mongodb = mongodb
        self._wants_memcached = memcached
        self._die_with_parent = die_with_parent
        self._users: TextIO | None = None
        self._children: list[subprocess.Popen[bytes]] = []
        self._watched: dict[str, psutil.Process | None] = {}
        self.ports = Ports()

    def __enter__(self) -> Self:
        if not (self._wants_mongodb or self._wants_memcached):
            return self
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._join()
        except OSError as error:
            raise EmbeddedError(f"data_dir: {error.filename}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._users is not None:
            with self._alone():
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

    def revive(self) -> list[str]:
        """Restart servers that died, on the same ports; return their names.

        Raises EmbeddedError.
        """
        self._reap()
        if all(_runs(process) for process in self._watched.values()):
            return []
        dead = [name for name, process in self._watched.items() if not _runs(process)]
        with self._alone():
            self._start_missing()
        return dead

    def processes(self) -> list[psutil.Process]:
        """The running servers of this folder, whichever process started them."""
        return [*self._running("mongod"), *self._running("memcached")]

    def _join(self) -> None:
        self._users = (self._folder / "users.lock").open("a")
        try:
            if _try_lock(self._users):
                self._end_servers()
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
            self._end_servers()
        self._users.close()
        self._users = None

    def _start_missing(self) -> None:
        """Start the servers that this user or an earlier one requires and that do not run."""
        mongodb, memcached = astuple(self._known_ports())
        if (self._wants_mongodb or mongodb) and not self._running("mongod"):
            mongodb = self._start_mongod(mongodb)
        if (self._wants_memcached or memcached) and not self._running("memcached"):
            memcached = self._start_memcached(memcached)
        self.ports = Ports(mongodb, memcached)
        # A server that died meanwhile is watched as well, and restarted at the next check.
        running = {process.name(): process for process in self.processes()}
        wanted = {"mongod": mongodb, "memcached": memcached}
        self._watched = {name: running.get(name) for name, port in wanted.items() if port}
        draft = self._ports_file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self.ports)))
        draft.replace(self._ports_file)

    def _start_mongod(self, port: int | None) -> int:
        data = self._place("mongod")
        data.mkdir(exist_ok=True)
        # The replica set identifies its member by the port; keeping it saves a reconfiguration.
        last = data / "port"
        with suppress(OSError, ValueError):
            port = port or free_port(preferred=int(last.read_text()))
        port = port or free_port()
        last.write_text(str(port))
        await_mongod(port, self._spawn("mongod", mongod_command(data, port)))
        return port

    def _start_memcached(self, port: int | None) -> int | None:
        program = find_memcached()
        if program is None:
            log.warning("%s Going on without a cache.", MEMCACHED_MISSING)
            return None
        port = port or free_port()
        command = memcached_command(program, self._place("memcached"), port)
        await_memcached(port, self._spawn("memcached", command))
        return port

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a server in its own session, so that Ctrl-C reaches only this process."""
        if self._die_with_parent:
            command = dying_with_parent(command)
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

    def _end_servers(self) -> None:
        """End every server of this folder, including those left behind."""
        ending = self.processes()
        for process in ending:
            _signal(process, "terminate")
        _, lasting = psutil.wait_procs(ending, timeout=_STOP_SECONDS)
        for process in lasting:
            _signal(process, "kill")
        psutil.wait_procs(lasting, timeout=_STOP_SECONDS)
        self._reap()
        self._ports_file.unlink(missing_ok=True)

    def _reap(self) -> None:
        """Reap children that have ended, because a zombie must not count as running."""
        self._children = [child for child in self._children if child.poll() is None]

    def _running(self, name: str) -> list[psutil.Process]:
        """Return the servers of this folder: ours, with an argument that names a place in it.

        A process of another user may have the same name and arguments.
        """
        self._reap()
        mark, owner = str(self._place(name)), os.geteuid()
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if (
                    process.name() == name
                    and mark in process.cmdline()
                    and process.uids().effective == owner
                ):
                    found.append(process)
        return found

    def _place(self, name: str) -> Path:
        return self._folder / {"mongod": "mongodb", "memcached": "memcached.pid"}[name]

    @property
    def _ports_file(self) -> Path:
        return self._folder / "ports.json"

    def _known_ports(self) -> Ports:
        try:
            return Ports(**json.loads(self._ports_file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return Ports()

    @contextmanager
    def _alone(self) -> Iterator[None]:
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


def _runs(process: psutil.Process | None) -> bool:
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
