"""Limits on login attempts by user, by network, and by both."""

import pytest

from tornado_members.auth.login_queue import Source
from tornado_members.auth.shared_counts import SharedCounts
from tornado_members.auth.throttle import LoginThrottle
from tornado_members.errors import TooManyAttempts
from tornado_members.settings import Login

LIMITS = {
    "attempts_per_user_and_address": 3,
    "attempts_per_user": 5,
    "attempts_per_address": 7,
    "logins_per_user": 4,
    "window_seconds": 100,
}


class Gate:
    """A throttle whose clock a test can move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        counts = SharedCounts([], namespace="test", clock=lambda: self.now)
        self.throttle = LoginThrottle(counts, Login.model_validate(LIMITS), lambda: self.now)

    async def failed(self, username: str, address: str, times: int = 1) -> int:
        """Make failing attempts; return how many of them are admitted."""
        count = 0
        for _ in range(times):
            attempt = self.throttle.attempt(username, address)
            try:
                await self.throttle.check(attempt)
            except TooManyAttempts:
                continue
            await self.throttle.record(attempt, succeeded=False)
            count += 1
        return count

    async def succeeded(self, username: str, address: str) -> Source:
        """Log in; return the source of the attempt. Raises TooManyAttempts."""
        attempt = self.throttle.attempt(username, address)
        source = await self.throttle.check(attempt)
        await self.throttle.record(attempt, succeeded=True)
        return source


async def test_throttle_limits_one_user_from_one_address() -> None:
    gate = Gate()
    assert await gate.failed("ada", "10.0.0.1", 9) == 3
    assert await gate.failed("ada", "10.0.0.2") == 1
    assert await gate.failed("bob", "10.0.0.1") == 1


async def test_throttle_limits_one_user_from_all_addresses() -> None:
    gate = Gate()
    assert sum([await gate.failed("ada", f"10.0.0.{n}") for n in range(9)]) == 5
    assert await gate.failed("bob", "10.0.0.1") == 1


async def test_throttle_limits_all_users_from_one_address() -> None:
    gate = Gate()
    assert sum([await gate.failed(f"user-{n}", "10.0.0.1") for n in range(20)]) == 7
    assert await gate.failed("user-1", "10.0.0.2") == 1


async def test_throttle_does_not_count_refused_attempts() -> None:
    """One persistent address does not lock a user out everywhere."""
    gate = Gate()
    await gate.failed("ada", "10.0.0.1", 100)
    assert await gate.failed("ada", "10.0.0.2") == 1


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "::ffff:10.0.0.2"),
        ("", "", "10.0.0.1"),
    ],
)
async def test_throttle_treats_a_household_as_one_address(
    address: str, same: str, other: str
) -> None:
    gate = Gate()
    await gate.failed("ada", address, 3)
    assert await gate.failed("ada", same) == 0
    assert await gate.failed("ada", other) == 1


async def test_throttle_does_not_count_successful_logins() -> None:
    gate = Gate()
    for _ in range(20):
        await gate.throttle.check(gate.throttle.attempt("ada", "10.0.0.1"))
    assert await gate.failed("ada", "10.0.0.1", 9) == 3


async def test_throttle_forgets_attempts_in_time() -> None:
    gate = Gate()
    await gate.failed("ada", "10.0.0.1", 9)
    with pytest.raises(TooManyAttempts) as stopped:
        await gate.throttle.check(gate.throttle.attempt("ada", "10.0.0.1"))
    gate.now += int(stopped.value.headers["Retry-After"])
    assert await gate.failed("ada", "10.0.0.1") == 1


async def test_throttle_does_not_lock_out_recent_users() -> None:
    gate = Gate()
    await gate.succeeded("ada", "10.0.0.1")
    await gate.failed("bob", "10.0.0.1", 9)  # a neighbour uses up the limit of the address,
    for number in range(2, 9):
        await gate.failed("ada", f"10.0.0.{number}", 9)  # and attackers that of the user
        await gate.failed(f"user-{number}", "10.0.0.1", 9)
    assert await gate.failed("ada", "10.0.0.9") == 0
    assert await gate.failed("eve", "10.0.0.1") == 0
    assert (await gate.succeeded("ada", "10.0.0.1")).is_recent
    assert await gate.failed("ada", "10.0.0.1", 9) == 3  # guesses are limited there, too


async def test_users_count_as_recent_for_one_to_two_weeks() -> None:
    gate = Gate()
    await gate.succeeded("ada", "10.0.0.1")
    for days, is_recent in ((6, True), (1, True), (20, False)):
        gate.now += days * 86400
        source = await gate.throttle.check(gate.throttle.attempt("ada", "10.0.0.1"))
        assert source.is_recent == is_recent


async def test_sources_are_networks_or_recent_users_on_them() -> None:
    gate = Gate()
    await gate.succeeded("ada", "10.0.0.1")

    async def source(username: str, address: str) -> Source:
        return await gate.throttle.check(gate.throttle.attempt(username, address))

    bob = await source("bob", "10.0.0.1")
    assert bob == await source("eve", "10.0.0.1")
    assert not bob.is_recent
    ada = await source("ada", "10.0.0.1")
    assert ada.key != bob.key
    assert ada.is_recent
    assert not (await source("ada", "10.0.0.2")).is_recent


async def test_logins_of_one_user_are_limited() -> None:
    """Each takes a hash, as a wrong password does."""
    gate = Gate()
    for number in range(4):
        await gate.succeeded("ada", f"10.0.0.{number}")
    with pytest.raises(TooManyAttempts):
        await gate.succeeded("ada", "10.0.0.9")
    await gate.succeeded("bob", "10.0.0.9")
    gate.now += 100
    await gate.succeeded("ada", "10.0.0.9")
