"""The client of a connection, in the form in which Tornado's requests read it."""

import socket
from typing import Any, Final, Protocol

_NO_ADDRESS: Final = "0.0.0.0"  # noqa: S104  # what Tornado reports for Unix sockets


class Peer:
    """Attributes that HTTPServerRequest reads from `connection.context`."""

    def __init__(self, family: int, address: Any, protocol: str, key: str | None = None) -> None:
        """`key` is common to all connections of this peer; None if it is unknown."""
        self.key = key
        self.address_family = family
        self.address = address
        self.protocol = protocol
        is_ip = family in (socket.AF_INET, socket.AF_INET6)
        self.remote_ip = str(address[0]) if is_ip else _NO_ADDRESS

    def __str__(self) -> str:
        return self.remote_ip if self.remote_ip != _NO_ADDRESS else str(self.address)


class _Exchange(Protocol):
    @property
    def is_closed(self) -> bool: ...
    def get_extra_info(self, name: str) -> Any: ...
    def close(self) -> None: ...


class PeerStream:
    """Replaces the IOStream that Tornado's connections have."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    @property
    def socket(self) -> Any:
        """The socket; with TLS the object that has the peer's certificate."""
        return self._exchange.get_extra_info("ssl_object") or self._exchange.get_extra_info(
            "socket"
        )

    def closed(self) -> bool:
        """Return True if nothing can be sent to the client any more."""
        return self._exchange.is_closed

    def close(self) -> None:
        """Close the connection."""
        self._exchange.close()
