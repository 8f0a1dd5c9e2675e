"""Limits on login attempts, against guessing and against exhausting the time for hashing."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Protocol

from tornado_members.auth.login_queue import Source
from tornado_members.errors import TooManyAttempts
from tornado_members.settings import Login

_IPV6_NETWORK = 64  # bits: the network of one household
_RECENT_SECONDS = 7 * 86400  # a user logged in recently: in this period or the one before


class Counts(Protocol):
    """Counters that all processes share."""

    def get_own(self, key: bytes) -> int:
        """Return a counter as this process counted it."""

    async def get_many(self, keys: Sequence[bytes]) -> Sequence[int]:
        """Return counters."""

    def add(self, key: bytes, amount: int, ttl: int) -> Coroutine[Any, Any, int]:
        """Add to a counter that is deleted `ttl` seconds after its creation.

        The process counts at once; the coroutine shares it with the others.
        """


@dataclass(slots=True)
class Attempt:
    """One login attempt: the user, the client's network, and the counters that concern it.

    Counters are named by digests, so that Memcached holds neither user names nor addresses.
    """

    user_and_network: bytes  # failures
    user: bytes  # failures
    network: bytes  # failures
    logins: bytes  # successes of the user
    recent: tuple[bytes, bytes]  # successes of the user on the network, in this period and before
    is_recent: bool = False  # as found by `check`

    def counters(self) -> list[bytes]:
        """Return all counters."""
        return [self.user_and_network, self.user, self.network, self.logins, *self.recent]


class LoginThrottle:
    """Counts failed attempts by user and network, by user and by network, and logins by user.

    A user who logged in from a network recently is exempt there from the limits by user and by
    network: attackers elsewhere, or behind the same address, cannot lock that user out. Guesses
    from there are bounded by the limit by user and network.
    """

    def __init__(
        self, counts: Counts, settings: Login, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` returns seconds since the epoch."""
        self._counts = counts
        self._settings = settings
        self._clock = clock

    def attempt(self, username: str, address: str) -> Attempt:
        """Return an attempt that begins now. `address` is the client's; empty for a Unix socket."""
        window = int(self._clock() // self._settings.window_seconds)
        period = int(self._clock() // _RECENT_SECONDS)
        network = network_of(address)
        return Attempt(
            user_and_network=_key("both", username, network, window),
            user=_key("user", username, window),
            network=_key("address", network, window),
            logins=_key("logins", username, window),
            recent=(
                _key("recent", username, network, period),
                _key("recent", username, network, period - 1),
            ),
        )

    async def check(self, attempt: Attempt) -> Source:
        """Return the source of the attempt, which decides its place in the queue.

        Raises TooManyAttempts.
        """
        self.check_own(attempt)
        return self._check(attempt, await self._counts.get_many(attempt.counters()))

    def check_own(self, attempt: Attempt) -> None:
        """Check by what this process counted. Raises TooManyAttempts.

        At its turn, an attempt must not wait for counters: a flood of other attempts does.
        """
        self._check(attempt, [self._counts.get_own(key) for key in attempt.counters()])

    def _check(self, attempt: Attempt, counted: Sequence[int]) -> Source:
        settings = self._settings
        both, by_user, by_network, logins, *recent = counted
        is_recent = attempt.is_recent = attempt.is_recent or any(recent)
        if (
            both >= settings.attempts_per_user_and_address
            or logins >= settings.logins_per_user
            or (by_user >= settings.attempts_per_user and not is_recent)
            or (by_network >= settings.attempts_per_address and not is_recent)
        ):
            seconds = settings.window_seconds
            raise TooManyAttempts(max(1, round(seconds - self._clock() % seconds)))
        if is_recent:
            return Source(attempt.recent[0], is_recent=True)
        return Source(attempt.network)

    def record(self, attempt: Attempt, *, succeeded: bool) -> "asyncio.Future[list[int]]":
        """Count an attempt: in this process at once, for all when the future is done."""
        add, window = self._counts.add, self._settings.window_seconds + 1
        if succeeded:
            lifetimes = {attempt.logins: window, attempt.recent[0]: 2 * _RECENT_SECONDS + 1}
        else:
            failures = (attempt.user_and_network, attempt.user, attempt.network)
            lifetimes = dict.fromkeys(failures, window)
        return asyncio.gather(*(add(key, 1, ttl) for key, ttl in lifetimes.items()))


def _key(*parts: str | int) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        text = str(part).encode("utf-8", "replace")
        digest.update(b"%d:%b" % (len(text), text))
    return b"login:" + digest.hexdigest().encode()


def network_of(address: str) -> str:
    """Return the network of an address: an IPv4 address itself, the /64 of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address  # a Unix socket has none
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed.packed, _IPV6_NETWORK), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
