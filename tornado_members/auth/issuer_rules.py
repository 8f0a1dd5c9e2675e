"""Rules for the tokens of one issuer: an entry of auth.issuers, compiled at the start."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tornado_members.auth.caller import Caller
from tornado_members.auth.claims import find_claim, show_path
from tornado_members.auth.permissions import GrantTable
from tornado_members.errors import TokenInvalid
from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.settings import OWN_PERMISSIONS, Auth, Issuer

MAX_SUBJECT: Final = 255  # characters
GENERATION: Final = "generation"  # the claim by which a user's earlier tokens are revoked
DEFAULT_MEMBER_CLAIM: Final = ("member_id",)  # of tokens that this service signs
_MEMBER_ID: Final = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_LATEST_DATE: Final = 253402300799  # the end of the year 9999

Claims = Mapping[str, Any]


class IssuerRules:
    """Checks header and claims of tokens of one issuer. Every check raises TokenInvalid."""

    def __init__(self, entry: Issuer, auth: Auth, source_name: str) -> None:
        """`source_name` is the name of the entry's keys."""
        self.entry = entry
        self.name = entry.issuer
        self.source_name = source_name
        self.grants = GrantTable.compile(entry.permissions, auth.permissions)
        self.max_lifetime = entry.max_lifetime_seconds or auth.max_lifetime_seconds
        self.member_claim = member_claim_of(entry, auth.own_issuer)
        self._algorithms = frozenset(entry.algorithms)
        self._types = frozenset(map(_short_type, entry.token_types))
        self._audience = frozenset(entry.audience or ())
        self._client_ids = frozenset(entry.client_ids or ())
        self._refuses_bound = auth.sender_constrained == "refuse"
        self._leeway = auth.leeway_seconds

    def check_header(self, header: Mapping[str, Any]) -> None:
        """Check `alg` and `typ`."""
        self.check_algorithm(header)
        self.check_type(header)

    def check_algorithm(self, header: Mapping[str, Any]) -> None:
        """Check `alg` (RFC 8725 §3.1)."""
        if header["alg"] not in self._algorithms:
            raise TokenInvalid("is signed with an algorithm that is not accepted", "algorithm")

    def check_type(self, header: Mapping[str, Any]) -> None:
        """Check `typ` (RFC 8725 §3.11)."""
        if "typ" in header and _short_type(header["typ"]) not in self._types:
            raise TokenInvalid("is of a type that is not accepted", "header")

    def check_claims(self, claims: Claims, now: float) -> None:
        """Check all claims: their types as well as their values."""
        self.check_presence(claims)
        self.check_audience(claims)
        self.check_subject(claims)
        self.check_dates(claims, now)
        self.check_binding(claims)

    def check_presence(self, claims: Claims) -> None:
        """Check that the dates and the audience are present."""
        for name in ("exp", "iat", *(("aud",) if self._audience else ())):
            if name not in claims:
                raise TokenInvalid(f"lacks the claim {name}")

    def check_audience(self, claims: Claims) -> None:
        """Check `aud` (RFC 7519 §4.1.3); without it, `client_id` or `azp`."""
        if not self.accepts_audience(claims):
            raise TokenInvalid("is for another audience", "audience")

    def accepts_audience(self, claims: Claims) -> bool:
        """Return True if the token is for this service."""
        if self._client_ids:
            client = claims["client_id"] if "client_id" in claims else claims.get("azp")
            return "aud" not in claims and isinstance(client, str) and client in self._client_ids
        value = claims.get("aud")
        audience = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in audience):
            return False
        return not self._audience.isdisjoint(audience)

    def check_subject(self, claims: Claims) -> None:
        """Check the claim that names the subject: a string of printable characters."""
        path = self.entry.subject_claim
        subject = find_claim(claims, path)
        if subject is None:
            raise TokenInvalid(f"lacks the claim {_quotable(show_path(path))}")
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
            raise TokenInvalid(f"has a subject that is not 1 to {MAX_SUBJECT} characters")
        if not subject.isprintable():
            raise TokenInvalid("has a subject that cannot be printed")

    def check_dates(self, claims: Claims, now: float) -> None:
        """Check `exp`, `iat` and `nbf` (RFC 7519 §4.1); `now` in seconds since the epoch."""
        for name in ("exp", "iat", "nbf"):
            # A NumericDate is a JSON number (§2), not a string of digits or a truth value.
            date = claims.get(name, 0)
            if type(date) not in (int, float) or not 0 <= date <= _LATEST_DATE:
                raise TokenInvalid(f"has a claim {name} that is not a date")
        if now >= claims["exp"] + self._leeway:
            raise TokenInvalid("has expired", "expired")
        if max(claims["iat"], claims.get("nbf", 0)) > now + self._leeway:
            raise TokenInvalid("is not valid yet", "not-yet-valid")
        if claims["exp"] - claims["iat"] > self.max_lifetime:
            raise TokenInvalid(f"is valid for more than {self.max_lifetime} s, the maximum")

    def check_binding(self, claims: Claims) -> None:
        """Refuse tokens that are bound to a key (RFC 7800, RFC 8705, RFC 9449)."""
        if self._refuses_bound and "cnf" in claims:
            raise TokenInvalid("is bound to a key of its holder, which is not checked here")

    def expires(self, claims: Claims) -> float:
        """Return when a token stops being accepted, in seconds since the epoch."""
        return float(claims["exp"] + self._leeway)

    def caller(self, claims: Claims) -> Caller:
        """Return the caller that verified claims identify."""
        generation = claims.get(GENERATION)
        member_id = self.own_member(claims)
        granted = self.grants.granted(claims)
        return Caller(
            self.name,
            find_claim(claims, self.entry.subject_claim),
            granted if member_id is not None else granted - OWN_PERMISSIONS,
            generation if type(generation) is int else None,
            member_id,
        )

    def own_member(self, claims: Claims) -> int | None:
        """Return the id of the caller's own member; None for anything but a positive integer."""
        value = find_claim(claims, self.member_claim) if self.member_claim else None
        if isinstance(value, str) and _MEMBER_ID.fullmatch(value):
            value = int(value)
        return value if type(value) is int and 1 <= value <= MAX_MEMBER_ID else None


def compile_issuers(auth: Auth) -> dict[str, tuple[IssuerRules, ...]]:
    """Return the rules of each issuer, by its name: one for each of its entries, in their order."""
    found: dict[str, list[IssuerRules]] = {}
    for entry, source_name in zip(auth.issuers, key_source_names(auth.issuers), strict=True):
        found.setdefault(entry.issuer, []).append(IssuerRules(entry, auth, source_name))
    return {name: tuple(rules) for name, rules in found.items()}


def key_source_names(issuers: Sequence[Issuer]) -> list[str]:
    """Return a name for the keys of each entry: entries of one issuer may share them or not."""
    names: list[str] = []
    known: dict[str, list[object]] = {}
    for entry in issuers:
        where = (entry.jwks, entry.secret, entry.secret_file)
        of_issuer = known.setdefault(entry.issuer, [])
        if where not in of_issuer:
            of_issuer.append(where)
        number = of_issuer.index(where) + 1
        names.append(entry.issuer if number == 1 else f"{entry.issuer} ({number})")
    return names


def member_claim_of(entry: Issuer, own_issuer: str) -> Sequence[str] | None:
    """Return the path of the claim that holds the caller's own member; the own issuer has one."""
    default = DEFAULT_MEMBER_CLAIM if entry.issuer == own_issuer else None
    return entry.member_claim or default


def _short_type(kind: str) -> str:
    """Return a `typ` in lower case and without `application/` (RFC 7515 §4.1.9)."""
    return kind.lower().removeprefix("application/")


def _quotable(text: str) -> str:
    """Return a name from the settings as it may stand in a quoted-string of a header."""
    printable = text.encode("ascii", "replace").decode()
    return printable.replace("\\", "?").replace('"', "?")
