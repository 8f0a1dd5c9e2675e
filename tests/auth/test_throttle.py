"""Guessing is slowed, for a user from an address, for the user, and for the address."""

import pytest

from tornado_members.auth.throttle import LoginThrottle
from tornado_members.cache.shared_counts import SharedCounts
from tornado_members.errors import TooManyAttempts
from tornado_members.settings import Login

LIMITS = {
    "attempts_per_user_and_address": 3,
    "attempts_per_user": 5,
    "attempts_per_address": 7,
    "window_seconds": 100,
}


class Gate:
    """A throttle whose clock a test can move."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        counts = SharedCounts([], namespace="test", clock=lambda: self.now)
        self.throttle = LoginThrottle(counts, Login.model_validate(LIMITS), lambda: self.now)

    async def failed(self, username: str, address: str, times: int = 1) -> int:
        """How many of so many attempts are let through; all of them fail."""
        count = 0
        for _ in range(times):
            try:
                await self.throttle.check(username, address)
            except TooManyAttempts:
                continue
            await self.throttle.note_failure(username, address)
            count += 1
        return count


async def test_one_user_from_one_address() -> None:
    gate = Gate()
    assert await gate.failed("ada", "10.0.0.1", 9) == 3
    assert await gate.failed("ada", "10.0.0.2") == 1
    assert await gate.failed("bob", "10.0.0.1") == 1


async def test_one_user_from_anywhere() -> None:
    gate = Gate()
    assert sum([await gate.failed("ada", f"10.0.0.{n}") for n in range(9)]) == 5
    assert await gate.failed("bob", "10.0.0.1") == 1


async def test_anybody_from_one_address() -> None:
    gate = Gate()
    assert sum([await gate.failed(f"user-{n}", "10.0.0.1") for n in range(20)]) == 7
    assert await gate.failed("user-1", "10.0.0.2") == 1


async def test_whoever_is_stopped_counts_against_nobody_else() -> None:
    """One address that never gives up does not lock a user out everywhere."""
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
async def test_a_household_is_one_address(address: str, same: str, other: str) -> None:
    gate = Gate()
    await gate.failed("ada", address, 3)
    assert await gate.failed("ada", same) == 0
    assert await gate.failed("ada", other) == 1


async def test_what_does_not_fail_is_not_counted() -> None:
    gate = Gate()
    for _ in range(20):
        await gate.throttle.check("ada", "10.0.0.1")
    assert await gate.failed("ada", "10.0.0.1", 9) == 3


async def test_after_a_while_everything_is_forgotten() -> None:
    gate = Gate()
    await gate.failed("ada", "10.0.0.1", 9)
    with pytest.raises(TooManyAttempts) as stopped:
        await gate.throttle.check("ada", "10.0.0.1")
    gate.now += int(stopped.value.headers["Retry-After"])
    assert await gate.failed("ada", "10.0.0.1") == 1
