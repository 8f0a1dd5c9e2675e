"""The caller of a request: an identity that an issuer vouches for, and its permissions."""

from dataclasses import dataclass

from tornado_members.auth.permissions import OWN
from tornado_members.errors import PermissionMissing
from tornado_members.settings import Permission


@dataclass(frozen=True, slots=True)
class Caller:
    """The subject of a verified token."""

    issuer: str
    subject: str
    permissions: frozenset[Permission]
    generation: int | None = None  # of a token that the login issued
    member_id: int | None = None  # its own member, which permissions `...:own` allow

    def may(self, permission: Permission, member_id: int) -> bool:
        """Return True if the caller has a permission for this member."""
        return permission in self.permissions or (
            member_id == self.member_id and self.has_own(permission)
        )

    def has_own(self, permission: Permission) -> bool:
        """Return True if the caller has a permission for its own member."""
        return self.member_id is not None and OWN.get(permission) in self.permissions

    def missing(self, permission: Permission) -> PermissionMissing:
        """Return the problem of a request that the caller's permissions do not allow."""
        return PermissionMissing(
            permission,
            granted=sorted(self.permissions),
            has_own=not self.permissions.isdisjoint(OWN.values()),
            own_member_id=self.member_id,
        )
