"""Claims by their path: one name, or several that lead into nested objects."""

from collections.abc import Mapping, Sequence
from typing import Any


def find_claim(claims: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return the value at `path`; None if it is absent, or a parent is not an object."""
    value: Any = claims
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def set_claim(claims: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set the claim at `path`, and the objects that lead there."""
    *parents, name = path
    for parent in parents:
        claims = claims.setdefault(parent, {})
    claims[name] = value


def show_path(path: Sequence[str]) -> str:
    """Return a path for messages, such as `realm_access.roles`."""
    return ".".join(path)
