"""Login: a username and a password for a token of our own."""

import asyncio
import unicodedata
from contextlib import suppress
from dataclasses import dataclass

from tornado_members.auth.issuer_rules import GENERATION, MAX_SUBJECT
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.passwords import Passwords
from tornado_members.auth.signing import OwnKey
from tornado_members.auth.throttle import LoginThrottle
from tornado_members.errors import DependencyUnavailable, LoginFailed, UserBlocked
from tornado_members.storage.users import User, UserStore

_LONGEST = 4 * MAX_SUBJECT  # characters, before they are composed


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token, and the seconds that it lives."""

    text: str
    seconds: int


class Login:
    """Checks passwords and issues tokens."""

    def __init__(
        self,
        *,
        users: UserStore,
        passwords: Passwords,
        throttle: LoginThrottle,
        key: OwnKey,
        issuer: OwnIssuer,
        token_seconds: int,
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._throttle = throttle
        self._key = key
        self._issuer = issuer
        self._token_seconds = token_seconds

    async def log_in(self, username: str, password: str, address: str) -> IssuedToken:
        """A token for a user who knows the password.

        Raises LoginFailed, which does not tell an unknown user from a wrong password, neither by
        its words nor by its time; UserBlocked, TooManyAttempts, DependencyUnavailable.
        """
        username = normalize_username(username)
        await self._throttle.check(username, address)  # whoever is stopped does not wait
        user = await self._users.find_user(username)
        async with self._passwords.turn():
            # Again: many guesses at once gain nothing.
            await self._throttle.check(username, address)
            hashed = user.password_hash if user else None
            is_right = await self._passwords.verify(password, hashed)
            if not is_right:
                await self._throttle.note_failure(username, address)
        if user is None or not is_right:
            raise LoginFailed
        if user.access_rights == 0:
            raise UserBlocked
        await self._renew_hash(user, password)
        return await asyncio.to_thread(self._issue, user)

    async def _renew_hash(self, user: User, password: str) -> None:
        """Hash it with today's care, if that can be done: the login goes well without."""
        with suppress(DependencyUnavailable):
            async with self._passwords.turn():
                renewed = await self._passwords.rehash(password, user.password_hash)
            if renewed:
                await self._users.renew_hash(user, renewed)

    def _issue(self, user: User) -> IssuedToken:
        claims = self._issuer.claims(
            user.username,
            self._token_seconds,
            **{"access_rights": user.access_rights, GENERATION: user.generation},
        )
        return IssuedToken(self._key.current().sign(claims), self._token_seconds)


def normalize_username(username: str) -> str:
    """A name however the keyboard composed it, without white space around it (RFC 8265 §3.4).

    One that is too long to be anybody's is nobody's.
    """
    # Composing takes time that grows with the square of the length.
    return unicodedata.normalize("NFC", username).strip() if len(username) <= _LONGEST else ""


def is_username(username: str) -> bool:
    """Whether somebody may be called that: it is going to be the subject of tokens."""
    return 0 < len(username) <= MAX_SUBJECT and username.isprintable()
