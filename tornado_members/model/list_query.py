"""The query of a list, which `handlers/` parses and `storage/` executes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tornado_members.model.member import Member, SortField


@dataclass(frozen=True, slots=True)
class Filters:
    """The conditions on every member of a list. None sets no condition."""

    name: str | None = None  # the whole name, in the form that normalize_name returns
    name_prefix: str | None = None  # the beginning of the name, in any case
    # By field, the whole value; in any case if the field is case-folded.
    equal: Mapping[str, str] = field(default_factory=dict)
    q: str | None = None  # words, each of which begins a word of a field that is searched
    # By the path of an indexed attribute, such as attributes.level, a value.
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One page of a list. `after` is the sort key of the last member before the page."""

    filters: Filters = Filters()
    field: SortField = "memberId"
    descending: bool = False
    after: int | str | None = None
    limit: int = 50

    def key_of(self, member: Member) -> int | str:
        """Return the sort key of a member. It is unique."""
        return member.member_id if self.field == "memberId" else member.name


@dataclass(frozen=True, slots=True)
class MemberPage:
    """A page of members as JSON."""

    items: bytes  # their objects, with a comma or a line feed between two of them
    keys: Sequence[int | str]  # the sort key of each
    has_more: bool  # True if members follow after this page
