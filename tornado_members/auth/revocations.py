"""Revokes tokens of users who have lost rights since the tokens were issued."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from logging import getLogger
from typing import Any, Protocol

from tornado_members.auth.caller import Caller
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.errors import DependencyUnavailable, TokenInvalid
from tornado_members.settings import OWN_PERMISSIONS
from tornado_members.storage.users import UserState
from tornado_members.ticks import next_tick

log = getLogger(__name__)

_REST_TICKS = 5  # without a token of these users, after which they are not polled
_WAIT_SECONDS = 1.0  # that the first token after an idle time waits for MongoDB


class _Users(Protocol):
    def find_revoked(self, seconds: float) -> Coroutine[Any, Any, dict[str, UserState]]:
        """Return the users without rights, and those whose tokens were revoked recently."""


class TokenRevocations:
    """The few users who are blocked or have revoked tokens, polled from MongoDB every second.

    They are users of one issuer. While MongoDB does not respond, the last known state applies.
    """

    def __init__(self, users: _Users, issuer: str, token_seconds: float) -> None:
        """`token_seconds`: the longest time for which a token may be accepted after its issue."""
        self._users = users
        self.issuer = issuer
        self._token_seconds = token_seconds
        self._states: Mapping[str, UserState] = {}
        self._revision = 0  # raised by each change
        self._polling: asyncio.Task[None] | None = None
        self._failing = False
        self._unused_ticks = 0
        self._current = asyncio.Event()  # set unless the polling rests
        self._used = asyncio.Event()  # ends a rest: a token was used

    async def open(self) -> None:
        """Load the users, and start polling. Raises DependencyUnavailable."""
        await self._load()
        self._current.set()
        self._polling = asyncio.create_task(self._poll())

    async def close(self) -> None:
        """Stop polling."""
        if self._polling:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    @property
    def revision(self) -> int:
        """A number that changes with the users, which are polled while it is read."""
        self._unused_ticks = 0
        return self._revision

    def is_current(self) -> bool:
        """True if the known state is at most a second old, or MongoDB is unavailable.

        The users are polled from now on.
        """
        self._unused_ticks = 0
        return self._current.is_set()

    async def ensure_current(self) -> None:
        """Wait until `is_current`, but not for an outage of MongoDB."""
        if not self.is_current():
            self._used.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._current.wait()

    def apply(self, caller: Caller) -> Caller:
        """Return a caller of the issuer with its present permissions.

        A blocked user has none. A user without rights but with a member has those `...:own` only.

        Raises TokenInvalid for a token that was revoked.
        """
        state = self._states.get(caller.subject)
        if state is None:
            return caller
        if state.is_blocked:
            return replace(caller, permissions=frozenset())
        if caller.generation is not None and caller.generation < state.generation:
            raise TokenInvalid("was revoked; log in again", "revoked")
        if state.access_rights == 0:
            return replace(caller, permissions=caller.permissions & OWN_PERMISSIONS)
        return caller

    async def _poll(self) -> None:
        while True:
            await next_tick()  # so a token is revoked within a second
            await self._rest()
            self._unused_ticks += 1
            try:
                await self._load()
            except DependencyUnavailable as error:
                self._note_failure(error)
            except Exception as error:
                if not self._failing:
                    log.exception("revoked tokens cannot be loaded")
                self._note_failure(error)
            else:
                self._failing = False
            self._current.set()

    async def _rest(self) -> None:
        """Wait for the next token, if none was used for a while.

        Polling continues during an outage: otherwise the next token would wait for its end.
        """
        if self._unused_ticks >= _REST_TICKS and not self._failing:
            self._current.clear()
            self._used.clear()
            await self._used.wait()

    async def _load(self) -> None:
        states = await self._users.find_revoked(self._token_seconds)
        if states != self._states:
            self._states = states
            self._revision += 1

    def _note_failure(self, error: Exception) -> None:
        if not self._failing:
            log.warning(
                "blocked users cannot be looked up (%s); the last known state applies", error
            )
        self._failing = True


@asynccontextmanager
async def open_revocations(own: OwnIssuer, users: _Users) -> AsyncIterator[TokenRevocations]:
    """Yield the users whose tokens are revoked."""
    revocations = TokenRevocations(users, own.name, own.max_token_seconds)
    await revocations.open()
    try:
        yield revocations
    finally:
        await revocations.close()
