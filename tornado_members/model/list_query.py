"""Which members are to be listed, and in what order: what HTTP asks and storage answers."""

from dataclasses import dataclass, replace
from typing import Self

from tornado_members.model.member import Member, SortField


@dataclass(frozen=True, slots=True)
class Filters:
    """What is true of every member of a list; None demands nothing."""

    name: str | None = None  # exactly this, in the form that normalize_name gives
    name_prefix: str | None = None  # the name begins so, whatever the case
    email: str | None = None  # this, whatever the case
    phone: str | None = None  # exactly this


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One page of a list. `after` is the sort key of the last member before the page."""

    filters: Filters = Filters()
    field: SortField = "memberId"
    descending: bool = False
    after: int | str | None = None
    limit: int = 50

    def key_of(self, member: Member) -> int | str:
        """A member's place in this order; no two members have the same one."""
        return member.member_id if self.field == "memberId" else member.name

    def behind(self, member: Member) -> Self:
        """The same list from behind a member on, such as the last one of a page."""
        return replace(self, after=self.key_of(member))
