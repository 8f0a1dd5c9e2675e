"""From the text of a bearer token to the Caller it speaks for (RFC 7519, RFC 8725)."""

import base64
import binascii
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import jwt

from tornado_members.auth.keys import Key, KeySet, KeySource
from tornado_members.auth.permissions import granted
from tornado_members.errors import DependencyUnavailable, PermissionMissing, TokenInvalid
from tornado_members.model.strict_json import parse_object
from tornado_members.settings import Auth, Issuer, Permission

MAX_TOKEN = 8192  # characters
MAX_SUBJECT = 255  # characters
MAX_REMEMBERED = 10_000  # tokens; some 5 MB

GENERATION = "generation"  # the claim of our own tokens that tells which of a user's they are

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 7519 §5.1 and RFC 9068 §2.1; anything else says that the token was meant for another use.
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
# They change how a token is to be read. Nothing here reads it in another way, so none may ask for
# it. Headers that offer a key or an address (jwk, jku, x5u ...) are never looked at.
_CHANGES_READING = frozenset({"crit", "b64", "zip", "enc"})
_LATEST_DATE = 253402300799  # the end of the year 9999
_JWS = jwt.PyJWS()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request: an issuer's word for who they are, and what they may do."""

    issuer: str
    subject: str
    permissions: frozenset[Permission]
    generation: int | None = None  # of a token that a user got by logging in

    def require(self, permission: Permission) -> None:
        """Raises PermissionMissing."""
        if permission not in self.permissions:
            raise PermissionMissing(permission, of_none=not self.permissions)


@dataclass(slots=True)
class TokenCounts:
    """What became of the tokens that were shown in this process, for operators."""

    remembered: int = 0
    verified: int = 0
    keys_away: int = 0  # nobody could say
    refused: Counter[str] = field(default_factory=Counter)  # by the kind of the reason


class _Verified(NamedTuple):
    """A token that was verified, and how long and by which keys that stands."""

    caller: Caller
    keys: KeySet
    source: KeySource
    expires: float  # seconds since the epoch, with the leeway

    def stands(self, now: float) -> bool:
        """Whether it has not expired, and its issuer's keys are still the same."""
        return now < self.expires and self.source.keys() is self.keys


class TokenVerifier:
    """Checks tokens against the issuers of the settings and their keys.

    A token that was verified is remembered by its digest, until it expires or its issuer's keys
    change. Others are not: whatever is thrown at it, what it remembers has a bound.
    """

    def __init__(
        self,
        settings: Auth,
        key_sources: Mapping[str, KeySource],
        clock: Callable[[], float] = time.time,
        standing: Callable[[Caller], Caller] = lambda caller: caller,
    ) -> None:
        """`key_sources` by the name of their issuer; `clock` tells seconds since the epoch.

        `standing` is asked at every request what became of a caller since; it raises TokenInvalid
        for one whose token was withdrawn.
        """
        self._settings = settings
        self._issuers = {issuer.issuer: issuer for issuer in settings.issuers}
        self._key_sources = key_sources
        self._clock = clock
        self._standing = standing
        self._remembered: dict[bytes, _Verified] = {}  # the longest unused first
        self.counts = TokenCounts()

    async def verify(self, token: str) -> Caller:
        """Who a token speaks for.

        Raises TokenInvalid with a reason that reveals nothing of the token, and
        DependencyUnavailable if the issuer's keys are not available. Waits only if a token names a
        key that may be new.
        """
        try:
            return await self._look_up(token)
        except TokenInvalid as refusal:
            self.counts.refused[refusal.kind] += 1
            raise
        except DependencyUnavailable:
            self.counts.keys_away += 1
            raise

    def recall(self, token: str) -> Caller | None:
        """Who a token speaks for, if that is remembered; None where it has to be verified.

        It is not counted: whoever asks may come to need no answer.
        """
        if len(token) > MAX_TOKEN:
            return None
        digest = _digest(token)
        verified = self._remembered.pop(digest, None)
        if verified is None or not verified.stands(self._clock()):
            return None
        self._remembered[digest] = verified
        try:
            return self._standing(verified.caller)
        except TokenInvalid:
            return None

    async def _look_up(self, token: str) -> Caller:
        if len(token) > MAX_TOKEN:
            raise TokenInvalid(f"is longer than {MAX_TOKEN} characters", "malformed")
        digest = _digest(token)
        verified = self._remembered.pop(digest, None)
        if verified is None or not verified.stands(self._clock()):
            verified = await self._verify(token)
            self.counts.verified += 1
        else:
            self.counts.remembered += 1
        self._remembered[digest] = verified
        if len(self._remembered) > MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return self._standing(verified.caller)

    async def _verify(self, token: str) -> _Verified:
        header, claims = _read(token)
        _check_header(header)
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenInvalid("is from an unknown issuer", "issuer")
        if header["alg"] not in issuer.algorithms:
            raise TokenInvalid("is signed with an algorithm that is not accepted", "algorithm")
        source = self._key_sources[issuer.issuer]
        keys, key = await _find_key(source, header.get("kid"), header["alg"])
        if key is None or self._clock() >= key.expires:
            raise TokenInvalid("is signed with an unknown key", "key")
        _check_signature(token, key.jwk, issuer)
        self._check_claims(claims, issuer)
        generation = claims.get(GENERATION)
        caller = Caller(
            issuer.issuer,
            claims["sub"],
            granted(claims, self._settings.permissions),
            generation if type(generation) is int else None,
        )
        expires = min(claims["exp"] + self._settings.leeway_seconds, key.expires)
        return _Verified(caller, keys, source, expires)

    def _check_claims(self, claims: Mapping[str, Any], issuer: Issuer) -> None:
        """Dates, audience and subject: present, of the right type, and right (RFC 7519 §4.1)."""
        for name in ("exp", "iat", "aud", "sub"):
            if name not in claims:
                raise TokenInvalid(f"lacks the claim {name}")
        for name in ("exp", "iat", "nbf"):
            # A NumericDate is a JSON number (§2): no string of digits, and no truth value.
            date = claims.get(name, 0)
            if type(date) not in (int, float) or not 0 <= date <= _LATEST_DATE:
                raise TokenInvalid(f"has a claim {name} that is no date")
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if issuer.audience not in audience or not all(isinstance(one, str) for one in audience):
            raise TokenInvalid("is meant for another audience", "audience")
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
            raise TokenInvalid(f"has a subject that is not 1 to {MAX_SUBJECT} characters")
        if not subject.isprintable():
            raise TokenInvalid("has a subject that cannot be printed")
        self._check_dates(claims)

    def _check_dates(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock(), self._settings.leeway_seconds
        if now >= claims["exp"] + leeway:
            raise TokenInvalid("has expired", "expired")
        if max(claims["iat"], claims.get("nbf", 0)) > now + leeway:
            raise TokenInvalid("is not valid yet", "not-yet-valid")
        if claims["exp"] - claims["iat"] > self._settings.max_lifetime_seconds:
            raise TokenInvalid("is valid for longer than is accepted here")


async def _find_key(
    source: KeySource, kid: str | None, algorithm: str
) -> tuple[KeySet, Key | None]:
    """The key for a token's header, and the set that it is from."""
    keys = source.keys()
    key = keys.find(kid, algorithm)
    if key is None and kid is not None:
        await source.look_again()
        keys = source.keys()
        key = keys.find(kid, algorithm)
    return keys, key


def _digest(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, not yet verified. Each can be read in one way only, or not at all."""
    if not _COMPACT.fullmatch(token):
        raise TokenInvalid("is not a JSON Web Token", "malformed")
    header, claims, signature = token.split(".")
    try:
        _decode(signature)
        return parse_object(_decode(header)), parse_object(_decode(claims))
    except ValueError:
        raise TokenInvalid("is not a JSON Web Token", "malformed") from None


def _decode(part: str) -> bytes:
    """Base64url without padding (RFC 7515 §2), and without bits that say nothing."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise ValueError("another text means the same")
    return data


def _check_header(header: Mapping[str, Any]) -> None:
    if not isinstance(header.get("alg"), str):
        raise TokenInvalid("names no algorithm", "algorithm")
    if _CHANGES_READING & header.keys():
        raise TokenInvalid("asks for an extension that is not known here", "header")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenInvalid("is of a type that is not accepted", "header")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise TokenInvalid("is signed with an unknown key", "key")


def _check_signature(token: str, key: jwt.PyJWK, issuer: Issuer) -> None:
    """The signature alone: PyJWT would take '1' for a date, and much else."""
    try:
        _JWS.decode(token, key, algorithms=list(issuer.algorithms))
    except Exception:  # noqa: BLE001
        # PyJWT lets TypeErrors and UnicodeErrors out as well; whatever it was, it does not verify.
        raise TokenInvalid("has a signature that does not verify", "signature") from None
