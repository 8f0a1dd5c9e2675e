"""Finds the process at the other end of a loopback TCP connection (Linux)."""

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = 1
_ANY = 0xFFFFFFFF


def socket_inode(port: int, peer_port: int) -> int | None:
    """Return the inode of the socket that has a port and is connected to another on 127.0.0.1.

    sock_diag(7) looks up only this socket. /proc/net/tcp lists every connection of the machine,
    and reading it for each new one would take longer than connecting.
    """
    host = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    sockets = struct.pack("!HH", port, peer_port) + host + host
    sockets += struct.pack("=III", 0, _ANY, _ANY)  # any interface, any cookie
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, _ANY) + sockets
    head = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as netlink:
        netlink.send(head + request)
        response = netlink.recv(8192)
    (kind,) = struct.unpack_from("=H", response, 4)
    if kind != _SOCK_DIAG_BY_FAMILY:  # an error: there is no such socket
        return None
    (inode,) = struct.unpack_from("=I", response, 16 + 4 + len(sockets) + 16)
    return int(inode)


def has_socket(pid: int, inode: int) -> bool:
    """True if a process has a socket open."""
    with suppress(FileNotFoundError):  # the process has ended
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # the process has just closed it
                if os.readlink(file) == f"socket:[{inode}]":
                    return True
    return False
