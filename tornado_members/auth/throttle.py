"""Guessing is slowed: so many failed logins in a while, and no more."""

import time
from collections.abc import Callable
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple, Protocol

from tornado_members.errors import TooManyAttempts
from tornado_members.settings import Login

_IPV6_NETWORK = 64  # bits: a single household has all addresses below


class Counts(Protocol):
    """Numbers that every process sees."""

    async def get(self, key: bytes, *, enough: int) -> int:
        """A number, or one that is at least `enough` where that is known already."""

    async def add(self, key: bytes, amount: int, ttl: int) -> int:
        """Add to a number that is forgotten `ttl` seconds after it was new; returns it."""


class _Limit(NamedTuple):
    key: bytes
    most: int


class LoginThrottle:
    """Counts failures on a user from an address, on the user, and from the address.

    Time goes in windows that every process knows by the clock.
    """

    def __init__(
        self, counts: Counts, settings: Login, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` tells seconds since the epoch."""
        self._counts = counts
        self._settings = settings
        self._clock = clock

    async def check(self, username: str, address: str) -> None:
        """Raises TooManyAttempts."""
        for limit in self._limits(username, address):
            if await self._counts.get(limit.key, enough=limit.most) >= limit.most:
                seconds = self._settings.window_seconds
                raise TooManyAttempts(max(1, round(seconds - self._clock() % seconds)))

    async def note_failure(self, username: str, address: str) -> None:
        """Count one that failed."""
        for limit in self._limits(username, address):
            await self._counts.add(limit.key, 1, self._settings.window_seconds + 1)

    def _limits(self, username: str, address: str) -> list[_Limit]:
        settings = self._settings
        window = int(self._clock() // settings.window_seconds)
        network = _network(address)
        return [
            _Limit(_key("both", username, network, window), settings.attempts_per_user_and_address),
            _Limit(_key("address", network, window), settings.attempts_per_address),
            _Limit(_key("user", username, window), settings.attempts_per_user),
        ]


def _key(*parts: str | int) -> bytes:
    """Neither names nor addresses are to be read in a cache."""
    digest = blake2b(digest_size=16)
    for part in parts:
        text = str(part).encode("utf-8", "replace")
        digest.update(b"%d:%b" % (len(text), text))
    return b"login:" + digest.hexdigest().encode()


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # a Unix socket has none
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed.packed, _IPV6_NETWORK), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
