"""The limit on requests per minute of each subject."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tornado_members.auth.caller import Caller
from tornado_members.auth.rate_limit import RateLimit
from tornado_members.auth.shared_counts import SharedCounts
from tornado_members.errors import TooManyRequests

ADA = Caller("issuer", "ada", frozenset())


class Clock:
    """A clock that a test sets."""

    now = 60_000.0

    def __call__(self) -> float:
        return self.now


class HeldCounts(SharedCounts):
    """Counters whose replies a test releases one by one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.amounts: list[int] = []  # that were added by each command
        self.replies = asyncio.Semaphore(0)

    async def add_many(self, amounts: Mapping[bytes, int], ttl: int) -> Mapping[bytes, int]:  # type: ignore[override]
        self.amounts.append(sum(amounts.values()))
        numbers = await super().add_many(amounts, ttl)
        await self.replies.acquire()
        return numbers


def limits(clock: Clock, count: int = 2) -> list[RateLimit]:
    """Return the limits of several processes, each of three requests per minute."""
    counts = SharedCounts([], namespace="test", clock=clock)
    return [RateLimit(counts, 3, clock) for _ in range(count)]


async def allowed(limit: RateLimit, caller: Caller, times: int) -> int:
    """Return how many of these requests are admitted."""
    count = 0
    for _ in range(times):
        try:
            await limit.check(caller)
            count += 1
        except TooManyRequests:
            pass
    return count


async def test_rate_limit_is_shared_by_processes() -> None:
    one, other = limits(Clock())
    assert await allowed(one, ADA, 2) == 2
    assert await allowed(other, ADA, 5) == 1
    assert await allowed(one, ADA, 5) == 0


async def test_rate_limit_is_separate_for_each_subject_and_issuer() -> None:
    (limit,) = limits(Clock(), 1)
    assert await allowed(limit, ADA, 5) == 3
    assert await allowed(limit, Caller("issuer", "bob", frozenset()), 5) == 3
    assert await allowed(limit, Caller("other", "ada", frozenset()), 5) == 3
    assert await allowed(limit, Caller("issuerada", "", frozenset()), 5) == 3


async def test_rate_limit_admits_the_first_requests_of_a_turn() -> None:
    (limit,) = limits(Clock(), 1)
    bob = Caller("issuer", "bob", frozenset())
    assert await limit.admit([ADA, bob, ADA, ADA, ADA]) == [True, True, True, True, False]
    assert await limit.admit([ADA, bob]) == [False, True]
    assert limit.is_exceeded(ADA)
    assert not limit.is_exceeded(bob)


async def test_rate_limit_starts_anew_each_minute() -> None:
    clock = Clock()
    (limit,) = limits(clock, 1)
    assert await allowed(limit, ADA, 5) == 3
    clock.now += 45.5
    with pytest.raises(TooManyRequests) as refused:
        await limit.check(ADA)
    assert refused.value.headers == {"Retry-After": "15"}
    clock.now += 15
    assert await allowed(limit, ADA, 5) == 3


async def test_rate_limit_sends_no_commands_for_a_subject_over_it() -> None:
    commands = 0

    class Counts(SharedCounts):
        def add_many(self, amounts: Mapping[bytes, int], ttl: int) -> Any:
            nonlocal commands
            commands += 1
            return super().add_many(amounts, ttl)

    clock = Clock()
    limit = RateLimit(Counts([], namespace="test", clock=clock), 3, clock)
    assert await allowed(limit, ADA, 100) == 3
    assert commands == 4


async def test_rate_limit_counts_requests_together_that_arrive_during_a_command() -> None:
    clock = Clock()
    counts = HeldCounts([], namespace="test", clock=clock)
    limit = RateLimit(counts, 3, clock)
    checks = []
    for _ in range(8):  # each in a turn of its own
        checks.append(asyncio.create_task(limit.admit([ADA])))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for _ in range(9):
        counts.replies.release()
    assert [admitted for one in checks for admitted in await one] == [True] * 3 + [False] * 5
    assert counts.amounts == [1, 7]


async def test_rate_limit_admits_requests_far_below_it_before_they_are_counted() -> None:
    clock = Clock()
    counts = HeldCounts([], namespace="test", clock=clock)
    limit = RateLimit(counts, 1500, clock)
    counts.replies.release()
    assert await limit.admit([ADA]) == [True]
    for _ in range(500):  # until the reply, no more than this
        assert await asyncio.wait_for(limit.admit([ADA]), 10) == [True]
        await asyncio.sleep(0)
    waiting = asyncio.create_task(limit.admit([ADA]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    for _ in range(9):
        counts.replies.release()
    assert await waiting == [True]
    assert sum(counts.amounts) == 502
    assert len(counts.amounts) <= 4
    assert sum(await limit.admit([ADA] * 1000)) == 998
    assert limit.is_exceeded(ADA)


async def test_reply_leaves_requests_subtracted_that_were_admitted_meanwhile() -> None:
    clock = Clock()
    counts = HeldCounts([], namespace="test", clock=clock)
    limit = RateLimit(counts, 1500, clock)
    counts.replies.release()
    assert await limit.admit([ADA]) == [True]
    assert await limit.admit([ADA] * 200) == [True] * 200
    await asyncio.sleep(0)
    assert counts.amounts == [1, 200]  # the reply to the second command is held
    assert await limit.admit([ADA] * 400) == [True] * 400
    counts.replies.release()
    for _ in range(5):
        await asyncio.sleep(0)
    assert counts.amounts == [1, 200, 400]
    # The 400 are being counted, and fewer than 1,000 are left.
    waiting = asyncio.create_task(limit.admit([ADA]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    counts.replies.release()
    counts.replies.release()
    assert await waiting == [True]


async def test_rate_limit_of_many_requests_is_exact_over_processes() -> None:
    clock = Clock()
    counts = SharedCounts([], namespace="test", clock=clock)
    one, other = (RateLimit(counts, 1200, clock) for _ in range(2))
    admitted = 0
    for _ in range(130):
        admitted += sum(await one.admit([ADA] * 7)) + sum(await other.admit([ADA] * 5))
        await asyncio.sleep(0)
    assert admitted == 1200
