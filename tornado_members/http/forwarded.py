"""The client's address behind reverse proxies (X-Forwarded-For)."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from tornado.httputil import HTTPHeaders

_UNIX = "unix"
_UNIX_PEERS = ("", "0.0.0.0")  # noqa: S104  (Tornado's address of a Unix socket's peer)


class TrustedProxies:
    """Finds the client's address, by the X-Forwarded-For of trusted proxies only.

    Each proxy appends the address of its peer to X-Forwarded-For. So the list is read from its end,
    past the trusted addresses. The first untrusted address is the client's; the client may have
    forged everything before it. X-Real-Ip and Forwarded (RFC 7239) are not read: a proxy that sets
    one of the three headers passes the other two on as the client sent them.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """`trusted` are addresses and networks; "unix" is every peer on a Unix socket."""
        self._networks = tuple(ip_network(text) for text in trusted if text != _UNIX)
        self._trusts_unix = _UNIX in trusted

    def trusts(self, peer: str) -> bool:
        """Return True if the peer of a connection is a trusted proxy; empty for a Unix socket."""
        return self._trusts_unix if peer in _UNIX_PEERS else self._trusts(_parse(peer))

    def caller(self, peer: str, headers: HTTPHeaders) -> str:
        """Return the client's address: without a port, and as IPv4 if it is mapped to IPv6.

        `peer` is the address of the connection; empty for a Unix socket, for which the result is
        `unix` if no proxy names the client.
        """
        address = None if peer in _UNIX_PEERS else _parse(peer)
        if not self.trusts(peer):
            return _show(address, peer)
        hops = ",".join(headers.get_list("X-Forwarded-For")).split(",")
        for hop in reversed(hops):
            named = _parse(hop.strip())
            if named is None:  # malformed: the address before it is the last known one
                break
            address = named
            if not self._trusts(named):
                break
        return _show(address, peer)

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _show(address: IPv4Address | IPv6Address | None, peer: str) -> str:
    if address is not None:
        return str(address)
    return _UNIX if peer in _UNIX_PEERS else peer


@lru_cache(1024)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; some proxies append a port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
