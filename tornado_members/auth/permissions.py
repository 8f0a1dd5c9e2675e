"""Derives the permissions of a token from its claims, by tables that are compiled at the start."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from tornado_members.auth.claims import find_claim
from tornado_members.settings import IssuerPermissions, Permission, Permissions

READ: Final = "members:read"
WRITE: Final = "members:write"
DELETE: Final = "members:delete"
READ_OWN: Final = "members:read:own"
WRITE_OWN: Final = "members:write:own"
# The permissions that allow the same for the caller's own member only.
OWN: Final[Mapping[Permission, Permission]] = {READ: READ_OWN, WRITE: WRITE_OWN}

Granted = frozenset[Permission]

_NOTHING: Final[Granted] = frozenset()
# Claims that identify a person are compared as a whole: a quoted local part may hold spaces, and
# "x ada@example.org y"@evil.example is not Ada.
_IDENTITY_CLAIMS: Final = frozenset(
    {
        *("sub", "email", "upn", "unique_name", "preferred_username", "username", "name"),
        *("nickname", "given_name", "family_name", "azp", "appid", "client_id", "cid", "oid"),
    }
)


class GrantRule(Protocol):
    """One claim, and what it grants."""

    @property
    def path(self) -> Sequence[str]:
        """The names that lead to the claim."""

    def granted(self, claims: Mapping[str, Any]) -> Granted:
        """Return what this claim grants; nothing if it is absent or of another shape."""

    def blocks(self, claims: Mapping[str, Any]) -> bool:
        """Return True if this claim revokes all permissions of its bearer."""


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """A claim whose values grant permissions.

    Its value may be a string (compared as a whole, and word by word), a list of strings, or an
    integer. Any other value grants nothing.
    """

    path: tuple[str, ...]
    values: Mapping[str, Granted]
    is_identity: bool = False  # compared as a whole only

    @classmethod
    def compile(cls, path: Sequence[str], values: Mapping[str, Sequence[Permission]]) -> Self:
        """Prepare a rule of the settings."""
        table = {value: frozenset(allowed) for value, allowed in values.items()}
        return cls(tuple(path), table, is_identity=_last_word(path[-1]) in _IDENTITY_CLAIMS)

    def granted(self, claims: Mapping[str, Any]) -> Granted:
        """Return what this claim grants."""
        value = find_claim(claims, self.path)
        if value is None or not self._may_be_trusted(claims):
            return _NOTHING
        return _NOTHING.union(*(self.values.get(word, _NOTHING) for word in self._words(value)))

    def blocks(self, claims: Mapping[str, Any]) -> bool:  # noqa: ARG002  # for subclasses
        """Return False."""
        return False

    def _words(self, value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
            if not self.is_identity:
                yield from value.split()
        elif type(value) is int:  # a truth value is an int as well
            yield str(value)
        elif isinstance(value, list):
            yield from (word for word in value if isinstance(word, str))

    def _may_be_trusted(self, claims: Mapping[str, Any]) -> bool:
        """Return False for an e-mail address that the issuer marks as unverified."""
        if self.path != ("email",) or "email_verified" not in claims:
            return True
        return claims["email_verified"] in (True, "true")  # Amazon Cognito writes a string


@dataclass(frozen=True, slots=True)
class AccessRightsRule:
    """The integer claim `access_rights`. A right that grants nothing blocks its bearer."""

    rights: Mapping[int, Granted]
    path: tuple[str, ...] = ("access_rights",)

    def granted(self, claims: Mapping[str, Any]) -> Granted:
        """Return what this right grants."""
        value = find_claim(claims, self.path)
        return self.rights.get(value, _NOTHING) if type(value) is int else _NOTHING

    def blocks(self, claims: Mapping[str, Any]) -> bool:
        """Return True if the claim is present and grants nothing."""
        return type(find_claim(claims, self.path)) is int and not self.granted(claims)


@dataclass(frozen=True, slots=True)
class GrantTable:
    """The permissions that one issuer's tokens grant: several rules add up."""

    rules: tuple[GrantRule, ...]
    always: Granted = _NOTHING
    at_most: Granted | None = None  # None: no cap

    @classmethod
    def compile(cls, own: IssuerPermissions | None, common: Permissions) -> Self:
        """Compile the table of an issuer: its own or the common one, limited by its `at_most`."""
        if own is None:
            return cls(_common_rules(common))
        if own.claims is not None:
            rules: tuple[GrantRule, ...] = tuple(
                ClaimRule.compile(rule.claim, rule.values) for rule in own.claims
            )
        else:
            rules = () if own.always else _common_rules(common)
        cap = None if own.at_most is None else frozenset(own.at_most)
        return cls(rules, frozenset(own.always), cap)

    def granted(self, claims: Mapping[str, Any]) -> Granted:
        """Return the permissions of a token with these claims."""
        if any(rule.blocks(claims) for rule in self.rules):
            return _NOTHING
        found = self.always.union(*(rule.granted(claims) for rule in self.rules))
        return found if self.at_most is None else found & self.at_most


def _last_word(name: str) -> str:
    """Return the claim's own name, without a namespace such as `https://example.org/` or `x:`."""
    return re.split("[/:]", name)[-1].lower()


def _common_rules(common: Permissions) -> tuple[GrantRule, ...]:
    rights = {right: frozenset(allowed) for right, allowed in common.access_rights.items()}
    return AccessRightsRule(rights), ClaimRule.compile(("scope",), common.scope)
