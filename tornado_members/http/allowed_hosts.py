"""The check of the Host header, against DNS rebinding.

A web page can make its own name resolve to a loopback or private address. Its scripts may then read
what a browser receives from there, as it is the same origin to the browser. But the requests carry
the page's name in Host (RFC 9110 §7.2). A request by IP address or loopback name is not the page's.
"""

from collections.abc import Collection
from ipaddress import ip_address

ANY = "*"


class AllowedHosts:
    """IP addresses, loopback names, and further names."""

    def __init__(self, names: Collection[str] = ()) -> None:
        """`names` are lower-case host names without a port; "*" allows every host."""
        self._names = frozenset(names)

    def allows(self, host: str | None) -> bool:
        """True if a Host header is allowed; also if it is absent, as browsers always send it."""
        if host is None or ANY in self._names:
            return True
        name = _without_port(host).lower().removesuffix(".")
        return _is_loopback_name(name) or _is_address(name) or name in self._names


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761 §6.3


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
