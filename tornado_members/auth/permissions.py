"""What the claims of a token allow, by the table in the settings."""

from collections.abc import Mapping
from typing import Any, Final

from tornado_members.settings import Permission, Permissions

READ: Final = "members:read"
WRITE: Final = "members:write"
DELETE: Final = "members:delete"


def granted(claims: Mapping[str, Any], table: Permissions) -> frozenset[Permission]:
    """The permissions of a token: those of its `scope` and those of its `access_rights` together.

    `scope` is a string of words (RFC 8693 §4.2) or a list of them; words that the table does not
    know allow nothing. A right to which the table gives nothing blocks the bearer, whatever the
    scope says.
    """
    rights = claims.get("access_rights")
    by_rights: tuple[Permission, ...] = ()
    if rights is not None:
        by_rights = table.access_rights.get(rights, ()) if type(rights) is int else ()
        if not by_rights:
            return frozenset()
    scope = claims.get("scope", "")
    words = scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else []
    by_scope = (table.scope.get(word, ()) for word in words if isinstance(word, str))
    return frozenset(by_rights).union(*by_scope)
