"""Login: exchanges a username and a password for a token of this service."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from tornado_members.auth.issuer_rules import GENERATION, MAX_SUBJECT
from tornado_members.auth.login_queue import LoginQueue
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.passwords import Passwords
from tornado_members.auth.permissions import READ_OWN, WRITE_OWN
from tornado_members.auth.shared_counts import SharedCounts
from tornado_members.auth.signing import OwnKey
from tornado_members.auth.throttle import LoginThrottle
from tornado_members.errors import DependencyUnavailable, LoginFailed, UserBlocked
from tornado_members.settings import Settings
from tornado_members.storage.users import User, UserStore

log = getLogger(__name__)

_LONGEST = 4 * MAX_SUBJECT  # characters, before composition


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and its lifetime in seconds."""

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
        self.passwords = passwords
        self._users = users
        self._throttle = throttle
        self._queue = LoginQueue()
        self._key = key
        self._issuer = issuer
        self._token_seconds = token_seconds

    async def log_in(self, username: str, password: str, address: str) -> IssuedToken:
        """Return a token if the password is that of the user. `address` is the client's.

        Raises LoginFailed. Its text and timing do not distinguish an unknown user from a wrong
        password. Raises UserBlocked, TooManyAttempts, Overloaded, DependencyUnavailable.
        """
        username = normalize_username(username)
        attempt = self._throttle.attempt(username, address)
        source = await self._throttle.check(attempt)  # refused attempts do not wait
        user = await self._users.find_user(username)
        async with self._queue.turn(source):
            self._throttle.check_own(attempt)  # again, since earlier attempts count by now
            hashed = user.password_hash if user else None
            is_right = await self.passwords.verify(password, hashed)
            recording = self._throttle.record(attempt, succeeded=is_right)
            renewed = None
            if user and is_right and not user.is_blocked:
                renewed = await self.passwords.rehash(password, user.password_hash)
        await recording
        if user is None or not is_right:
            raise LoginFailed
        if user.is_blocked:
            raise UserBlocked
        if renewed:
            with suppress(DependencyUnavailable):  # the old hash stays valid
                await self._users.renew_hash(user, renewed)
        return await asyncio.to_thread(self._issue, user)

    def _issue(self, user: User) -> IssuedToken:
        granted: dict[str, Any] = {GENERATION: user.generation}
        if user.access_rights:  # 0 would block the token
            granted["access_rights"] = user.access_rights
        if user.member_id is not None:
            granted["scope"] = f"{READ_OWN} {WRITE_OWN}"
        claims = self._issuer.claims(
            user.username, self._token_seconds, member_id=user.member_id, **granted
        )
        return IssuedToken(self._key.current().sign(claims), self._token_seconds)


@asynccontextmanager
async def open_login(
    settings: Settings, own: OwnIssuer | None, users: UserStore, counts: SharedCounts
) -> AsyncIterator[Login | None]:
    """Yield the login, if it is enabled and has a signing key. Raises KeysUnusable."""
    if not settings.login.enabled:
        yield None
        return
    if own is None or own.jwks_file is None or not own.can_sign:
        log.warning(
            "the login is disabled: auth.own_issuer does not accept RS256, or has no signing key"
        )
        yield None
        return
    passwords = Passwords()
    token_seconds = min(settings.login.token_seconds, own.max_lifetime)
    throttle = LoginThrottle(counts, settings.login)
    try:
        yield Login(
            users=users,
            passwords=passwords,
            throttle=throttle,
            key=OwnKey(own.jwks_file),
            issuer=own,
            token_seconds=token_seconds,
        )
    finally:
        passwords.close()


def normalize_username(username: str) -> str:
    """Return a name in NFC, without surrounding white space (RFC 8265 §3.4).

    A name that is too long for any user becomes empty, which no user's name is.
    """
    # Composing takes time quadratic in the length.
    return unicodedata.normalize("NFC", username).strip() if len(username) <= _LONGEST else ""


def is_username(username: str) -> bool:
    """True if a user may have this name, which becomes the subject of tokens."""
    return 0 < len(username) <= MAX_SUBJECT and username.isprintable()
