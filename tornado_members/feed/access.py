"""The right of a subscriber to continue reading: its token may expire or be revoked meanwhile."""

import time
from collections.abc import Callable

from tornado_members.auth.caller import Caller
from tornado_members.auth.permissions import READ
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.errors import DependencyUnavailable, TokenInvalid


class Access:
    """The token of one subscriber."""

    __slots__ = ("_clock", "_expires", "_member_id", "_token", "_tokens", "subject")

    def __init__(
        self,
        tokens: TokenVerifier,
        token: str,
        subject: tuple[str, str],
        member_id: int | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`subject` is the token's issuer and subject.

        `member_id` is the only member that the caller may read; None if it may read all.
        """
        self.subject = subject
        self._tokens = tokens
        self._token = token
        self._member_id = member_id
        self._clock = clock
        self._expires = tokens.expiry(token)

    @property
    def has_expired(self) -> bool:
        """True if the token has to be verified again."""
        return self._clock() >= self._expires

    async def is_granted(self) -> bool:
        """Verify the token again. While the keys of its issuer are unavailable, it stays valid."""
        try:
            caller = await self._tokens.verify(self._token)
        except TokenInvalid:
            return False
        except DependencyUnavailable:
            return True
        self._expires = self._tokens.expiry(self._token)
        return self._may_read(caller)

    def _may_read(self, caller: Caller) -> bool:
        if self._member_id is None:
            return READ in caller.permissions
        return caller.may(READ, self._member_id)
