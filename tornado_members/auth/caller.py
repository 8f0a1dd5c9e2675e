"""The caller of a request: an identity that an issuer vouches for, and its permissions."""

from dataclasses import dataclass

from tornado_members.errors import PermissionMissing
from tornado_members.settings import Permission


@dataclass(frozen=True, slots=True)
class Caller:
    """The subject of a verified token."""

    issuer: str
    subject: str
    permissions: frozenset[Permission]
    generation: int | None = None  # of a token that the login issued

    def require(self, permission: Permission) -> None:
        """Raises PermissionMissing."""
        if permission not in self.permissions:
            raise PermissionMissing(permission, of_none=not self.permissions)
