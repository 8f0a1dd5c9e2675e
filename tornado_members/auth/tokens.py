"""From the text of a bearer token to the Caller it speaks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from tornado_members.auth.keys import KeySet
from tornado_members.auth.permissions import granted
from tornado_members.errors import PermissionMissing, TokenInvalid
from tornado_members.settings import Auth, Issuer, Permission

MAX_TOKEN = 8192  # characters
_REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "sub"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request: an issuer's word for who they are, and what they may do."""

    issuer: str
    subject: str
    permissions: frozenset[Permission]

    def require(self, permission: Permission) -> None:
        """Raises PermissionMissing."""
        if permission not in self.permissions:
            raise PermissionMissing(permission)


class TokenVerifier:
    """Checks tokens (RFC 7519, RFC 8725) against the issuers of the settings and their keys."""

    def __init__(self, settings: Auth, key_sets: Mapping[str, KeySet]) -> None:
        """`key_sets` by the name of their issuer."""
        self._settings = settings
        self._issuers = {issuer.issuer: issuer for issuer in settings.issuers}
        self._key_sets = key_sets

    def verify(self, token: str) -> Caller:
        """Who a token speaks for. Raises TokenInvalid with a reason that gives nothing away."""
        if len(token) > MAX_TOKEN:
            raise TokenInvalid(f"is longer than {MAX_TOKEN} characters")
        try:
            claims = self._decode(token)
        except TokenInvalid:
            raise
        except jwt.ExpiredSignatureError:
            raise TokenInvalid("has expired") from None
        except jwt.ImmatureSignatureError:
            raise TokenInvalid("is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise TokenInvalid("is meant for another audience") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenInvalid(f"lacks the claim {error.claim}") from None
        except Exception:  # noqa: BLE001
            # PyJWT lets TypeErrors and UnicodeErrors out as well; whatever it was, it is no token.
            raise TokenInvalid("is not a valid JSON Web Token") from None
        if claims["exp"] - claims["iat"] > self._settings.max_lifetime_seconds:
            raise TokenInvalid("is valid for longer than is accepted here")
        permissions = granted(claims, self._settings.permissions)
        return Caller(claims["iss"], claims["sub"], permissions)

    def _decode(self, token: str) -> dict[str, Any]:
        unverified = jwt.decode_complete(token, options={"verify_signature": False})
        header, name = unverified["header"], unverified["payload"].get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenInvalid("is from an unknown issuer")
        algorithm = header["alg"]
        if algorithm not in issuer.algorithms:
            raise TokenInvalid("is signed with an algorithm that is not accepted")
        key = self._key_sets[issuer.issuer].find(header.get("kid"), algorithm)
        if key is None:
            raise TokenInvalid("is signed with an unknown key")
        return self._verified(token, issuer, key)

    def _verified(self, token: str, issuer: Issuer, key: jwt.PyJWK) -> dict[str, Any]:
        claims = jwt.decode(
            token,
            key,
            algorithms=list(issuer.algorithms),
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=self._settings.leeway_seconds,
            options={"require": _REQUIRED_CLAIMS},
        )
        # PyJWT takes "1" for 1 (RFC 7519 §2: a NumericDate is a JSON number).
        if not all(type(claims[name]) in (int, float) for name in ("exp", "iat")):
            raise TokenInvalid("has a date that is not a number")
        return claims
