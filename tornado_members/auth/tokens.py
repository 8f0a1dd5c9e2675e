"""Verifies bearer tokens and returns their callers (RFC 7519, RFC 8725)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import jwt

from tornado_members.auth.caller import Caller
from tornado_members.auth.issuer_rules import IssuerRules, compile_issuers
from tornado_members.auth.key_set import Key, KeySet
from tornado_members.auth.keys import KeySource
from tornado_members.auth.token_format import check_header, read_token
from tornado_members.errors import DependencyUnavailable, TokenInvalid
from tornado_members.settings import Auth

MAX_CACHED = 10_000  # tokens; about 5 MB

_JWS = jwt.PyJWS()


@dataclass(slots=True)
class TokenCounts:
    """Outcomes of the token checks in this process, for operators."""

    remembered: int = 0  # verified earlier
    verified: int = 0
    keys_unavailable: int = 0  # the issuer's keys were not available
    refused: Counter[str] = field(default_factory=Counter)  # by the kind of the reason


class VerifiedToken(NamedTuple):
    """The caller of a verified token, the keys that verified it, and its expiry."""

    caller: Caller
    keys: KeySet
    source: KeySource
    expires: float  # seconds since the epoch, with the leeway

    def is_valid(self, now: float) -> bool:
        """Return True if it has not expired, and its issuer's keys have not changed."""
        return now < self.expires and self.source.keys() is self.keys


class Revocations(Protocol):
    """Revokes permissions that were withdrawn since one of its issuer's tokens was issued."""

    issuer: str

    @property
    def revision(self) -> int:
        """A number that changes with any of these permissions."""

    def is_current(self) -> bool:
        """True if the permissions of callers are known as they are now."""

    async def ensure_current(self) -> None:
        """Wait until `is_current`, but not for an outage."""

    def apply(self, caller: Caller) -> Caller:
        """Return the caller with its current permissions. Raises TokenInvalid if it was revoked."""


class TokenVerifier:
    """Verifies tokens against the issuers of the settings and their keys.

    A verified token is cached by its digest until it expires or its issuer's keys change. Refused
    tokens are not cached, so invalid tokens use no memory.
    """

    def __init__(
        self,
        settings: Auth,
        key_sources: Mapping[str, KeySource],
        clock: Callable[[], float] = time.time,
        revocations: Revocations | None = None,
    ) -> None:
        """`key_sources` by the names of key_source_names(); `clock` returns epoch seconds.

        `revocations` are applied at every request with a token of their issuer.
        """
        self._revocations = revocations
        self._issuers = compile_issuers(settings)
        self._max_bytes = settings.max_token_bytes
        self._key_sources = key_sources
        self._clock = clock
        self._verified_tokens: dict[bytes, VerifiedToken] = {}  # least recently used first
        self.counts = TokenCounts()

    async def verify(self, token: str) -> Caller:
        """Return the caller that a token identifies.

        Raises TokenInvalid with a reason that discloses nothing, and DependencyUnavailable if the
        keys of its issuer are not available. Waits only if the token needs a key that may be new.
        """
        try:
            return await self._look_up(token)
        except TokenInvalid as refusal:
            self.counts.refused[refusal.kind] += 1
            raise
        except DependencyUnavailable:
            self.counts.keys_unavailable += 1
            raise

    def get_cached(self, token: str) -> VerifiedToken | None:
        """Return a token that was verified before; None if it has to be verified.

        Not counted: the request may be passed on to a handler that verifies the token.
        """
        if len(token) > self._max_bytes:
            return None
        digest = _digest(token)
        verified = self._verified_tokens.pop(digest, None)
        if verified is None or not verified.is_valid(self._clock()):
            return None
        self._verified_tokens[digest] = verified
        return verified

    def current_caller(self, verified: VerifiedToken) -> Caller | None:
        """Return the caller of a verified token with its current permissions.

        None if the token was revoked or must be verified again.
        """
        caller = verified.caller
        if not verified.is_valid(self._clock()):
            return None
        revocations = self._revocations
        if revocations is None or revocations.issuer != caller.issuer:
            return caller
        try:
            return revocations.apply(caller) if revocations.is_current() else None
        except TokenInvalid:
            return None

    @property
    def revision(self) -> object:
        """A value that changes with the keys and with the permissions of callers.

        Long requests verify their token again when it changes.
        """
        keys = tuple(source.keys() for source in self._key_sources.values())
        return self._revocations and self._revocations.revision, keys

    def expiry(self, token: str) -> float:
        """Return when a token that was just verified has to be verified again, in epoch seconds."""
        verified = self._verified_tokens.get(_digest(token))
        return verified.expires if verified else self._clock()

    async def _look_up(self, token: str) -> Caller:
        if len(token) > self._max_bytes:
            raise TokenInvalid(f"is longer than {self._max_bytes} bytes", "malformed")
        digest = _digest(token)
        verified = self._verified_tokens.pop(digest, None)
        if verified is None or not verified.is_valid(self._clock()):
            verified = await self._verify(token)
            self.counts.verified += 1
        else:
            self.counts.remembered += 1
        self._verified_tokens[digest] = verified
        if len(self._verified_tokens) > MAX_CACHED:
            del self._verified_tokens[next(iter(self._verified_tokens))]
        caller, revocations = verified.caller, self._revocations
        if revocations is None or revocations.issuer != caller.issuer:
            return caller
        await revocations.ensure_current()
        return revocations.apply(caller)

    async def _verify(self, token: str) -> VerifiedToken:
        """Verify by the first entry of its issuer that accepts the token."""
        header, claims = read_token(token)
        check_header(header)
        error: TokenInvalid | DependencyUnavailable | None = None
        for rules in self._entries_for(claims):
            try:
                return await self._verify_by(rules, token, header, claims)
            except DependencyUnavailable as unavailable:
                error = unavailable
            except TokenInvalid as refusal:
                error = error or refusal
        raise error or TokenInvalid("is from an unknown issuer", "issuer")

    def _entries_for(self, claims: Mapping[str, Any]) -> Iterator[IssuerRules]:
        """Yield the entries that accept the token's audience, or else the first, for its error."""
        name = claims.get("iss")
        entries = self._issuers.get(name, ()) if isinstance(name, str) else ()
        matching = [rules for rules in entries if rules.accepts_audience(claims)]
        yield from matching or entries[:1]

    async def _verify_by(
        self, rules: IssuerRules, token: str, header: Mapping[str, Any], claims: Mapping[str, Any]
    ) -> VerifiedToken:
        rules.check_header(header)
        source = self._key_sources[rules.source_name]
        keys, key = await self._check_signature(token, header, source)
        rules.check_claims(claims, self._clock())
        expires = min(rules.expires(claims), key.expires)
        return VerifiedToken(rules.caller(claims), keys, source, expires)

    async def _check_signature(
        self, token: str, header: Mapping[str, Any], source: KeySource
    ) -> tuple[KeySet, Key]:
        """Return the key that verifies the token, and its set.

        The keys are refreshed if the token names an unknown key, or if a key that was not chosen
        by its name fails: the issuer may have rotated.
        """
        kid, algorithm = header.get("kid"), header["alg"]
        keys = source.keys()
        key = keys.find(kid, algorithm)
        is_good = key is not None and verifies(key, token, algorithm)
        may_be_new = kid is not None if key is None else kid is None or key.kid != kid
        if not is_good and may_be_new:
            await source.refresh()
            if source.keys() is not keys:
                keys = source.keys()
                key = keys.find(kid, algorithm)
                is_good = key is not None and verifies(key, token, algorithm)
        if key is None or self._clock() >= key.expires:
            raise TokenInvalid("is signed with an unknown key", "key")
        if not is_good:
            raise TokenInvalid("has a signature that does not verify", "signature")
        return keys, key


def _digest(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def verifies(key: Key, token: str, algorithm: str) -> bool:
    """Return True if the key verifies the signature; PyJWT checks nothing else here."""
    try:
        _JWS.decode(token, key.material, algorithms=[algorithm])
    except Exception:  # noqa: BLE001  # PyJWT also raises TypeError and UnicodeError
        return False
    return True
