"""Who is at the other end of a connection, as Tornado's requests ask for it."""

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tornado_members.http1.connection import Connection
    from tornado_members.http1.exchange import Exchange


class Peer:
    """What HTTPServerRequest reads from `connection.context`."""

    def __init__(self, family: int, address: Any, protocol: str, key: str | None = None) -> None:
        """`key` is what all connections of this peer have in common; None if it is not known."""
        self.key = key
        self.address_family = family
        self.address = address
        self.protocol = protocol
        is_ip = family in (socket.AF_INET, socket.AF_INET6)
        self.remote_ip = str(address[0]) if is_ip else "0.0.0.0"  # noqa: S104 (as Tornado has it)

    def __str__(self) -> str:
        return self.remote_ip if self.remote_ip != "0.0.0.0" else str(self.address)  # noqa: S104


class PeerStream:
    """In the place of the IOStream that Tornado has under its connections."""

    def __init__(self, connection: "Connection", exchange: "Exchange") -> None:
        self._connection = connection
        self._exchange = exchange

    @property
    def socket(self) -> Any:
        """The socket; with TLS the object that knows the peer's certificate."""
        transport = self._connection.transport
        return transport.get_extra_info("ssl_object") or transport.get_extra_info("socket")

    def closed(self) -> bool:
        """Whether the client can no longer be answered."""
        return self._exchange.closed

    def close(self) -> None:
        """Close the connection."""
        self._exchange.close()
