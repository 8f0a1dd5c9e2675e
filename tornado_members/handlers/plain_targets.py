"""The request targets that the fast path answers, and their routes."""

import re
from typing import Final
from urllib.parse import unquote

from tornado_members.cached_members import MemberSelector
from tornado_members.handlers.batches import MAX_IN_QUERY
from tornado_members.handlers.member_by_name import (
    MemberByNameHandler,
    MemberByNameInPathHandler,
)
from tornado_members.handlers.members import MembersHandler
from tornado_members.member_entries import MemberKeys, id_keys
from tornado_members.model.names import is_ambiguous_in_paths

# Below MAX_MEMBER_ID. A handler parses longer ids.
_SHORT_ID: Final = "[1-9][0-9]{0,14}+"
_ID: Final = re.compile(_SHORT_ID)
_AT_ID: Final = len("/members/")
# By name in the path, by name in a query that has nothing else, and several by id.
_TARGET: Final = re.compile(
    r"/members(?:/by-name(?:/([!-.0->@-~]+)|\?name=([!-%'-~]+))"
    rf"|\?memberId=({_SHORT_ID}(?:(?:,|%2[Cc]){_SHORT_ID})*+))"
)
_COMMA: Final = re.compile("%2[Cc]")


def selector_in(target: str) -> MemberSelector | None:
    """Return the members that a request target addresses; None if a handler must parse it."""
    if _ID.fullmatch(target, _AT_ID) and target.startswith("/members/"):
        return int(target[_AT_ID:])
    found = _TARGET.fullmatch(target)
    if found is None:
        return None
    in_path, in_query, listed = found.groups()
    return _keys_in(listed) if listed else _name_in(in_path, in_query)


def is_list(target: str) -> bool:
    """Return True for the target of a list."""
    return target.partition("?")[0] == MembersHandler.route


def route_of(selector: str | MemberKeys, target: str) -> str:
    """Return the pattern of the path of a target: that of a name, or of several ids."""
    if isinstance(selector, MemberKeys):
        return MembersHandler.route
    is_in_query = target.startswith(f"{MemberByNameHandler.route}?")
    return (MemberByNameHandler if is_in_query else MemberByNameInPathHandler).route


def _keys_in(listed: str) -> MemberKeys | None:
    """Return the keys of the listed members; None for a list that a handler refuses."""
    keys = id_keys(_COMMA.sub(",", listed) if "%" in listed else listed)
    return keys if keys.count <= MAX_IN_QUERY else None


def _name_in(in_path: str | None, in_query: str | None) -> str | None:
    """Decode a name; None if it is not UTF-8 or ambiguous in a path, which a handler refuses."""
    try:
        if in_query:
            return unquote(in_query.replace("+", " "), errors="strict")
        name = unquote(in_path or "", errors="strict")
    except UnicodeDecodeError:
        return None
    return None if is_ambiguous_in_paths(name) else name
