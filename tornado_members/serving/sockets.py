"""The listening sockets: bound once, shared by all workers."""

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

# Connections that may wait for accept(); the kernel caps it at net.core.somaxconn.
BACKLOG = 1024
_LISTEN_FDS_START = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


class ServingError(OperatorError):
    """The service cannot listen on an address. The message names the address and the reason."""


class Listeners:
    """Open listening sockets."""

    def __init__(self, sockets: list[socket.socket], unix_socket: Path | None = None) -> None:
        """`unix_socket` is the file of a socket that this service created."""
        self.sockets = sockets
        self._file = unix_socket
        self._inode = unix_socket.stat().st_ino if unix_socket else None

    def close(self) -> None:
        """Close the sockets in this process; other processes may share them."""
        for listener in self.sockets:
            listener.close()

    def remove_file(self) -> None:
        """Remove the file of the Unix socket, unless another service has replaced it."""
        if self._file:
            with suppress(OSError):
                if self._file.stat().st_ino == self._inode:
                    self._file.unlink()

    def url(self, scheme: str) -> str:
        """Return the address as a URL, for messages."""
        where = self.sockets[0].getsockname()
        if isinstance(where, str):
            return f"{scheme}+unix:{where}"
        host, port = where[:2]
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def listen(server: Server, environment: MutableMapping[str, str]) -> Listeners:
    """Return the sockets that systemd passes, or else those of the settings.

    Raises ServingError.
    """
    inherited = _sockets_of_systemd(environment)
    if inherited:
        return Listeners(inherited)
    if server.unix_socket:
        return Listeners(
            [_bind_unix(server.unix_socket, server.unix_socket_mode)], server.unix_socket
        )
    return Listeners(_bind_tcp("server", server))


def listen_for_admin(admin: Admin) -> Listeners:
    """Return the sockets of the admin listener. Raises ServingError.

    If the default port is in use, for instance by a second service on this host, a free port is
    used and logged. A configured port is never replaced.
    """
    try:
        return Listeners(_bind_tcp("admin", admin))
    except ServingError as error:
        if admin.port != Admin().port:
            raise
        log.warning("%s; using a free port instead", error)
        return Listeners(_bind_tcp("admin", admin.model_copy(update={"port": 0})))


def _sockets_of_systemd(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that systemd passes (sd_listen_fds(3)), and clear their variables."""
    variables: Mapping[str, str] = dict(environment)
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(variable, None)
    if variables.get("LISTEN_PID") != str(os.getpid()):
        return []
    found = []
    for descriptor in range(_LISTEN_FDS_START, _LISTEN_FDS_START + int(variables["LISTEN_FDS"])):
        os.set_inheritable(descriptor, False)
        try:
            listener = socket.socket(fileno=descriptor)
            listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ServingError(f"LISTEN_FDS: {descriptor} is not a socket: {error}") from None
        if not listens or listener.type != socket.SOCK_STREAM:
            raise ServingError(f"LISTEN_FDS: {descriptor} is not a listening stream socket")
        listener.setblocking(False)
        found.append(listener)
    return found


def _bind_tcp(section: str, where: Server | Admin) -> list[socket.socket]:
    """Bind the host and port of a section of the settings."""
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
    """Bind a Unix socket whose file has its mode from the start."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o777 & ~int(mode, 8))
    try:
        _remove_stale_socket(file)
        listener.setblocking(False)
        listener.bind(str(file))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)  # a path that is too long has no strerror
        raise ServingError(f"cannot listen on {file} (server.unix_socket): {reason}") from None
    finally:
        os.umask(previous)
    return listener


def _remove_stale_socket(file: Path) -> None:
    """Remove the socket of a killed service. Raises OSError if a service listens on it."""
    try:
        if not stat.S_ISSOCK(file.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "the file exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            file.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another service listens there")
