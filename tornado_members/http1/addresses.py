"""Count the connections of each address."""

import socket
from ipaddress import IPv6Address, ip_address
from typing import Any, Generic, TypeVar

Connection = TypeVar("Connection")


class AddressTable(Generic[Connection]):
    """The open connections of each address."""

    def __init__(self) -> None:
        self._connections: dict[str, set[Connection]] = {}

    def add(self, key: str | None, connection: Connection) -> None:
        """Add an open connection. `key` is what `address_key` returns."""
        if key is not None:
            self._connections.setdefault(key, set()).add(connection)

    def remove(self, key: str | None, connection: Connection) -> None:
        """Remove a connection that has closed."""
        if key is not None and (known := self._connections.get(key)) is not None:
            known.discard(connection)
            if not known:
                del self._connections[key]

    def connections(self, key: str) -> set[Connection]:
        """Return the open connections of an address."""
        return self._connections.get(key, set())


def address_key(family: int, address: Any) -> str | None:
    """Return a key that the connections of one peer share; None on a Unix socket."""
    if family == socket.AF_INET:
        return str(address[0])
    if family != socket.AF_INET6:
        return None
    parsed = ip_address(address[0].partition("%")[0])
    if not isinstance(parsed, IPv6Address) or parsed.ipv4_mapped:
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    return parsed.exploded[:19]  # 64 bits, the usual network of one subscriber
