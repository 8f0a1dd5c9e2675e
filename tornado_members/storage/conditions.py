"""The preconditions of writes, as MongoDB evaluates them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tornado_members.model.precondition import SECOND, Precondition
from tornado_members.storage.documents import IS_MEMBER, version_in

_NO_LATER = datetime(9999, 1, 1, tzinfo=UTC)


def filter_for(
    member_id: int, condition: Precondition, *, name: str | None = None
) -> Mapping[str, Any]:
    """Return the filter for a member that meets the condition and has the name, if one is given.

    The server compares, in the write itself. All but the id is an expression, so that the planner
    has only the index of ids to choose.
    """
    terms = terms_of(condition)
    if name is not None:
        terms.append({"$eq": ["$name", {"$literal": name}]})
    return {"_id": member_id, "$expr": {"$and": terms}}


def terms_of(condition: Precondition) -> list[Any]:
    """Return expressions that are all true of a member that meets the condition."""
    terms: list[Any] = [IS_MEMBER]
    if condition.must_not_exist:
        terms.append(False)
    if condition.one_of is not None:
        terms.append(version_in(condition.one_of))
    if condition.none_of:
        terms.append({"$not": [version_in(condition.none_of)]})
    if condition.unmodified_since is not None and condition.unmodified_since < _NO_LATER:
        before = condition.unmodified_since + SECOND
        undated = {"$ne": [{"$type": "$updatedAt"}, "date"]}
        terms.append({"$or": [undated, {"$lt": ["$updatedAt", before]}]})
    return terms
