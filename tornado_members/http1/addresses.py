"""How many connections each address has."""

import socket
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tornado_members.http1.connection import Connection


class AddressTable:
    """The open connections of each address; those of an IPv6 network /64 count as one address."""

    def __init__(self) -> None:
        self._connections: dict[str, set[Connection]] = {}

    def add(self, address: str | None, connection: "Connection") -> None:
        """Count an open connection. `address` is what `address_key` returns."""
        if address is not None:
            self._connections.setdefault(address, set()).add(connection)

    def remove(self, address: str | None, connection: "Connection") -> None:
        """Count a connection as closed."""
        if address is not None and (known := self._connections.get(address)) is not None:
            known.discard(connection)
            if not known:
                del self._connections[address]

    def connections(self, address: str | None) -> "set[Connection]":
        """Return the open connections of an address."""
        return self._connections.get(address or "", set())


def address_key(family: int, address: Any) -> str | None:
    """Return what the connections of one peer have in common; None on a Unix socket."""
    if family == socket.AF_INET:
        return str(address[0])
    if family != socket.AF_INET6:
        return None
    parsed = ip_address(address[0].partition("%")[0])
    if not isinstance(parsed, IPv6Address) or parsed.ipv4_mapped:
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    return parsed.exploded[:19]  # 64 bits, which is what one subscriber usually has
