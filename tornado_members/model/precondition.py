"""The preconditions of a request on a member (RFC 9110 §13.1)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Precondition:
    """Conditions on a member's version, and on the time of its last change in whole seconds."""

    must_exist: bool = False  # If-Match
    one_of: frozenset[int] | None = None  # If-Match with tags: the version is one of these
    must_not_exist: bool = False  # If-None-Match: *
    none_of: frozenset[int] = frozenset()  # If-None-Match with tags: the version is none of these
    unmodified_since: datetime | None = None  # If-Unmodified-Since, without If-Match

    def allows(self, version: int, updated_at: datetime | None) -> bool:
        """Return True if a write to a member with this version may happen."""
        if self.must_not_exist or version in self.none_of:
            return False
        return self.allows_read(version, updated_at)

    def allows_read(self, version: int, updated_at: datetime | None) -> bool:
        """Return True if a read may happen. For reads, If-None-Match is separate (§13.1.2)."""
        if self.one_of is not None and version not in self.one_of:
            return False
        if self.unmodified_since is None or updated_at is None:
            return True
        return updated_at.replace(microsecond=0) <= self.unmodified_since


NO_CONDITION = Precondition()
