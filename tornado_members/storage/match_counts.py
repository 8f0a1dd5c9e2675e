"""Finds out whether few or many members match one condition of a list.

MongoDB reads keys of an index only, and stops at the bound.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tornado_members.storage.documents import MEMBER_ID_RANGE
from tornado_members.storage.list_indexes import Index, Prefix, behind
from tornado_members.storage.mongo import Collection, Document
from tornado_members.storage.recent_facts import RecentFacts

# For so long, the number of matches hardly changes. It decides how a list is read, and not what it
# contains.
_REMEMBERED_SECONDS: Final = 5.0


class MatchCounts:
    """Counts the members that match, up to a bound. The results are cached for seconds.

    So the next pages of a list need no count.
    """

    def __init__(self, members: Collection) -> None:
        self._members = members
        self._facts = RecentFacts(_REMEMBERED_SECONDS)

    async def find_narrow(self, prefixes: Iterable[Prefix], most: int) -> Prefix | None:
        """Return the first prefix that at most so many members have."""
        for prefix in prefixes:
            if await self.is_narrow(prefix, most):
                return prefix
        return None

    async def is_narrow(self, prefix: Prefix, most: int) -> bool:
        """True if at most so many members have this prefix."""
        known = (prefix.index[0], prefix.text, most)
        for answer in (True, False):
            if (*known, answer) in self._facts:
                return answer
        matching = {**prefix.condition, "name": {"$gte": ""}, "_id": MEMBER_ID_RANGE}
        answer = await self._has_at_most(most, matching, prefix.index)
        self._facts.add((*known, answer))
        return answer

    async def find_narrow_attribute(
        self, stored: Mapping[str, Any], counts: Sequence[int]
    ) -> str | None:
        """Return the path of an attribute whose value few members have: the least of the counts.

        `stored` has the value of each path as MongoDB stores it.
        """
        for most in counts:
            for path, value in stored.items():
                matching = {path: value, "_id": MEMBER_ID_RANGE}
                if await self._has_at_most(most, matching, behind(path, "_id")):
                    return path
        return None

    async def _has_at_most(self, most: int, matching: Document, index: Index) -> bool:
        cursor = self._members.find(matching, {"_id": 1}, hint=index)
        return not await cursor.skip(most).limit(1).to_list(1)
