"""Guessing is slowed: so many failed attempts in a while, and no more."""

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

    async def add(self, key: bytes, amount: int, ttl: int) -> int:
        """Change a number that is forgotten `ttl` seconds after it was new; returns it."""


class _Limit(NamedTuple):
    key: bytes
    most: int


class LoginThrottle:
    """Counts attempts on a user from an address, on the user, and from the address.

    They are counted before the password is looked at, so that many guesses at once gain nothing,
    and taken back where it was right. Time goes in windows that every process knows by the clock.
    """

    def __init__(
        self, counts: Counts, settings: Login, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` tells seconds since the epoch."""
        self._counts = counts
        self._settings = settings
        self._clock = clock

    async def admit(self, username: str, address: str) -> "Attempt":
        """Count an attempt. Raises TooManyAttempts."""
        now, seconds = self._clock(), self._settings.window_seconds
        window = int(now // seconds)
        left = max(1, round((window + 1) * seconds - now))
        counted: list[_Limit] = []
        for limit in self._limits(username, _network(address), window):
            counted.append(limit)
            if await self._counts.add(limit.key, 1, seconds + 1) > limit.most:
                raise TooManyAttempts(left)
        return Attempt(self._counts, [limit.key for limit in counted], seconds + 1)

    def _limits(self, username: str, network: str, window: int) -> list[_Limit]:
        """The narrowest first: whoever is stopped there is not counted against everybody else."""
        settings = self._settings
        return [
            _Limit(_key("both", username, network, window), settings.attempts_per_user_and_address),
            _Limit(_key("address", network, window), settings.attempts_per_address),
            _Limit(_key("user", username, window), settings.attempts_per_user),
        ]


class Attempt:
    """One that was counted."""

    def __init__(self, counts: Counts, keys: list[bytes], ttl: int) -> None:
        self._counts = counts
        self._keys = keys
        self._ttl = ttl

    async def take_back(self) -> None:
        """It was no guess."""
        for key in self._keys:
            await self._counts.add(key, -1, self._ttl)


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
