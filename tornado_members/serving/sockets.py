"""The sockets on which the service listens: bound once, shared by all workers."""

import errno
import os
import socket
import stat
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from logging import getLogger
from pathlib import Path

from tornado.netutil import bind_sockets

from tornado_members.errors import OperatorError
from tornado_members.settings import Admin, Server

log = getLogger(__name__)

# Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn.
BACKLOG = 1024
_FIRST_PASSED_ON = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


class ServingError(OperatorError):
    """The service cannot listen where it should. The text says where, and why."""


class Listening:
    """Open sockets, and where they are."""

    def __init__(self, sockets: list[socket.socket], unix_socket: Path | None = None) -> None:
        """`unix_socket` is a file of ours, which goes when we go."""
        self.sockets = sockets
        self._file = unix_socket
        self._inode = unix_socket.stat().st_ino if unix_socket else None

    def close(self) -> None:
        """Listen no more in this process; others that share the sockets may."""
        for listener in self.sockets:
            listener.close()

    def remove_file(self) -> None:
        """Remove the file of the Unix socket, unless somebody else has taken its place."""
        if self._file:
            with suppress(OSError):
                if self._file.stat().st_ino == self._inode:
                    self._file.unlink()

    def url(self, scheme: str) -> str:
        """Where it listens, for people."""
        where = self.sockets[0].getsockname()
        if isinstance(where, str):
            return f"{scheme}+unix:{where}"
        host, port = where[:2]
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def listen(server: Server, environment: MutableMapping[str, str]) -> Listening:
    """The sockets of systemd where it passes some on, else those of the settings.

    Raises ServingError.
    """
    passed_on = _passed_on(environment)
    if passed_on:
        return Listening(passed_on)
    if server.unix_socket:
        return Listening(
            [_bind_unix(server.unix_socket, server.unix_socket_mode)], server.unix_socket
        )
    return Listening(_bind_tcp("server", server))


def listen_for_admin(admin: Admin) -> Listening:
    """Where probes and metrics are asked for. Raises ServingError.

    A second service on one machine, which was given another port and no thought to this one, takes
    a free one and says so; whoever chose one gets that or an error.
    """
    try:
        return Listening(_bind_tcp("admin", admin))
    except ServingError as error:
        if admin.port != Admin().port:
            raise
        log.warning("%s; a free port is taken instead", error)
        return Listening(_bind_tcp("admin", admin.model_copy(update={"port": 0})))


def _passed_on(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Sockets by systemd's protocol (sd_listen_fds(3)); nobody after us takes them for theirs."""
    wanted: Mapping[str, str] = dict(environment)
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(variable, None)
    if wanted.get("LISTEN_PID") != str(os.getpid()):
        return []
    found = []
    for descriptor in range(_FIRST_PASSED_ON, _FIRST_PASSED_ON + int(wanted["LISTEN_FDS"])):
        os.set_inheritable(descriptor, False)
        try:
            listener = socket.socket(fileno=descriptor)
            listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ServingError(f"LISTEN_FDS: {descriptor} is no socket: {error}") from None
        if not listens or listener.type != socket.SOCK_STREAM:
            raise ServingError(f"LISTEN_FDS: {descriptor} is no socket that streams and listens")
        listener.setblocking(False)
        found.append(listener)
    return found


def _bind_tcp(section: str, where: Server | Admin) -> list[socket.socket]:
    """Listen where a section of the settings says."""
    try:
        return bind_sockets(where.port, where.host, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        another = f"MEMBERS_{section.upper()}__PORT={where.port % 64_000 + 1000}"
        hint = f". For another port, set {another}" if taken else ""
        raise ServingError(
            f"cannot listen on {where.host}:{where.port} ({section}.host, {section}.port): "
            f"{reason}{hint}"
        ) from None


def _bind_unix(file: Path, mode: str) -> socket.socket:
    """A Unix socket that from its first moment on has its mode."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    others = os.umask(0o777 & ~int(mode, 8))
    try:
        _remove_left_behind(file)
        listener.setblocking(False)
        listener.bind(str(file))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)  # one that is too long has no strerror
        raise ServingError(f"cannot listen on {file} (server.unix_socket): {reason}") from None
    finally:
        os.umask(others)
    return listener


def _remove_left_behind(file: Path) -> None:
    """Remove the socket of a service that was killed. Raises OSError where somebody listens."""
    try:
        if not stat.S_ISSOCK(file.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file, which is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            file.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another service listens there")
