"""Revoked tokens: how long the last known state of users applies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tornado.ioloop import IOLoop

from tornado_members.auth import revocations
from tornado_members.auth.caller import Caller
from tornado_members.auth.revocations import TokenRevocations
from tornado_members.errors import DependencyUnavailable, TokenInvalid
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.users import UserState, UserStore

ISSUER = "tornado-members"
ADA = Caller(ISSUER, "ada", frozenset({"members:read"}), generation=1)


class CountedStore(UserStore):
    """Counts the polls, and fails while `is_unavailable`."""

    polls = 0
    is_unavailable = False

    async def find_revoked(self, seconds: float) -> dict[str, UserState]:
        self.polls += 1
        if self.is_unavailable:
            raise DependencyUnavailable
        return await super().find_revoked(seconds)


@pytest.fixture
def users(io_loop: IOLoop, mongo: Mongo, monkeypatch: pytest.MonkeyPatch) -> CountedStore:
    monkeypatch.setattr(revocations, "next_tick", lambda: asyncio.sleep(0.02))
    users = CountedStore(mongo)
    io_loop.run_sync(users.prepare)
    io_loop.run_sync(lambda: users.add("ada", "hash", 2))
    return users


@asynccontextmanager
async def opened(users: UserStore) -> AsyncIterator[TokenRevocations]:
    revoked = TokenRevocations(users, ISSUER, 60)
    await revoked.open()
    try:
        yield revoked
    finally:
        await revoked.close()


async def _until_rest(revoked: TokenRevocations) -> None:
    async with asyncio.timeout(60):
        while revoked._current.is_set():
            await asyncio.sleep(0.01)


async def test_first_token_after_idle_time_respects_later_revocations(
    users: CountedStore,
) -> None:
    async with opened(users) as revoked:
        await revoked.ensure_current()
        assert revoked.apply(ADA) == ADA
        await _until_rest(revoked)
        polls = users.polls
        await users.set_rights("ada", 1)
        await asyncio.sleep(0.2)
        assert users.polls == polls
        assert not revoked.is_current()  # so the fast path does not serve it
        await asyncio.gather(*(revoked.ensure_current() for _ in range(5)))
        assert users.polls == polls + 1
        with pytest.raises(TokenInvalid):
            revoked.apply(ADA)


async def test_polling_does_not_rest_while_tokens_are_used_or_watched(users: CountedStore) -> None:
    async with opened(users) as revoked:
        for _ in range(100):
            assert revoked.is_current()
            await asyncio.sleep(0.002)
        revision = revoked.revision
        for _ in range(100):
            assert revoked.revision == revision
            await asyncio.sleep(0.002)
        assert revoked.is_current()


async def test_polling_does_not_rest_during_an_outage(users: CountedStore) -> None:
    async with opened(users) as revoked:
        users.is_unavailable = True
        await asyncio.sleep(0.5)
        assert revoked.is_current()
        users.is_unavailable = False
        await _until_rest(revoked)


async def test_first_token_waits_a_second_at_most(
    users: CountedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "_WAIT_SECONDS", 0.01)
    async with opened(users) as revoked:
        await _until_rest(revoked)
        never = asyncio.Event()
        monkeypatch.setattr(users, "find_revoked", lambda _: never.wait())
        await revoked.ensure_current()
        assert revoked.apply(ADA) == ADA
