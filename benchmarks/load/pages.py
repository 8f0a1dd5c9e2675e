"""The pages of lists in a run. They differ, so that concurrent callers cannot share a query."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlencode

from benchmarks.load.bed import Document, member
from benchmarks.load.scenarios import PAGE, Scenario
from tornado_members.handlers.paging import next_path
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.model.member import SortField

_MOST = 1000  # pages of a run


@dataclass(frozen=True, slots=True)
class Page:
    """A page after the member with this id, of a list of all members or of a search."""

    after: int
    sort: SortField = "memberId"
    q: str | None = None

    @property
    def key(self) -> str:
        """The sort key in a document."""
        return "_id" if self.sort == "memberId" else self.sort

    @property
    def matching(self) -> Document:
        """The filter of the members on this page and after it."""
        found: Document = {self.key: {"$gt": member(self.after)[self.key]}}
        return found if self.q is None else {**found, "name": {"$regex": f"^Ada Lovelace {self.q}"}}

    def path(self, contestant: str) -> str:
        """Return the address of the page in a contestant."""
        if contestant.startswith("ours-"):
            return self._path_of_ours()
        if contestant == "eve":  # Eve has page numbers instead of cursors
            return f"/members?{urlencode({'limit': PAGE, 'page': self.after // PAGE + 1})}"
        words = {} if self.q is None else {"q": self.q}
        after = member(self.after)[self.key]
        return f"/members?{urlencode({'limit': PAGE, 'sort': self.sort, **words, 'after': after})}"

    def _path_of_ours(self) -> str:
        query = ListQuery(Filters(q=self.q), self.sort, limit=PAGE)
        return next_path(query, member(self.after)[self.key])


@cache
def pages_of(scenario: Scenario) -> Sequence[Page]:
    """Return full pages of a scenario, in random order; none if it does not request pages."""
    make = _PAGES.get(scenario.name)
    found = [*make(range(1, scenario.members + 1))] if make else []
    random.shuffle(found)
    return found[:_MOST]


def _by_id(ids: Sequence[int]) -> Sequence[Page]:
    return [Page(after) for after in ids[PAGE - 1 : -PAGE : PAGE]]


def _by_name(ids: Sequence[int]) -> Sequence[Page]:
    sorted_by_name = sorted(ids, key=lambda member_id: str(member(member_id)["name"]))
    return [Page(after, "name") for after in sorted_by_name[PAGE - 1 : -PAGE : PAGE]]


def _by_word(ids: Sequence[int]) -> Sequence[Page]:
    """Return pages of 90 searches, each of which one member in a hundred matches."""
    pages: list[Page] = []
    for q in map(str, range(10, 100)):
        found = [member_id for member_id in ids if str(member_id)[::-1].startswith(q)]
        pages += [Page(after, q=q) for after in found[PAGE - 1 : -PAGE : PAGE]]
    return pages


_PAGES: dict[str, Callable[[Sequence[int]], Sequence[Page]]] = {
    "list": _by_id,
    "list-by-name": _by_name,
    "search": _by_word,
}
