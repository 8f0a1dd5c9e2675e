"""Tokens that were good when they were issued, and are no more: their user lost rights since."""

import asyncio
from collections.abc import Coroutine, Mapping
from logging import getLogger
from typing import Any, Protocol

from tornado_members.auth.tokens import Caller
from tornado_members.errors import DependencyUnavailable, TokenInvalid
from tornado_members.storage.users import Standing

log = getLogger(__name__)

_LOOK_SECONDS = 0.4


class _Users(Protocol):
    def find_withdrawn(self, seconds: float) -> Coroutine[Any, Any, dict[str, Standing]]:
        """Whoever has no rights, or had tokens withdrawn in the last `seconds`."""


class Withdrawals:
    """The few users whose tokens want a second look, asked for twice a second and kept in memory.

    While MongoDB does not answer, what was known goes on to hold.
    """

    def __init__(self, users: _Users, issuer: str, token_seconds: float) -> None:
        """`token_seconds`: the longest that a token may be accepted after it was issued."""
        self._users = users
        self._issuer = issuer
        self._token_seconds = token_seconds
        self._standings: Mapping[str, Standing] = {}
        self._looking: asyncio.Task[None] | None = None
        self._failing = False

    async def open(self) -> None:
        """Look, and go on doing so. Raises DependencyUnavailable."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop looking."""
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def apply(self, caller: Caller) -> Caller:
        """The caller as they stand now: one who is blocked may do nothing.

        Raises TokenInvalid for a token that was withdrawn.
        """
        if caller.issuer != self._issuer:
            return caller
        standing = self._standings.get(caller.subject)
        if standing is None:
            return caller
        if standing.access_rights == 0:
            return Caller(caller.issuer, caller.subject, frozenset(), caller.generation)
        if caller.generation is not None and caller.generation < standing.generation:
            raise TokenInvalid("was withdrawn; log in again", "withdrawn")
        return caller

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
            except DependencyUnavailable as error:
                self._note_failure(error)
            except Exception as error:
                if not self._failing:
                    log.exception("the users whose tokens were withdrawn cannot be had")
                self._note_failure(error)
            else:
                self._failing = False

    async def _look(self) -> None:
        self._standings = await self._users.find_withdrawn(self._token_seconds)

    def _note_failure(self, error: Exception) -> None:
        if not self._failing:
            log.warning("who was blocked cannot be looked up (%s); what was known holds", error)
        self._failing = True
