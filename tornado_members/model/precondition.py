"""What has to be true of a member for a write to happen (RFC 9110 §13.1)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Precondition:
    """Of a member's version, and of the time when it was last changed, in whole seconds."""

    must_exist: bool = False  # If-Match of any kind
    one_of: frozenset[int] | None = None  # If-Match with tags: the version is one of these
    must_not_exist: bool = False  # If-None-Match: *
    none_of: frozenset[int] = frozenset()  # If-None-Match with tags: the version is none of these
    unmodified_since: datetime | None = None  # If-Unmodified-Since, where there is no If-Match

    def allows(self, version: int, updated_at: datetime | None) -> bool:
        """Whether it holds for a member that is there."""
        if self.must_not_exist or version in self.none_of:
            return False
        return self.allows_read(version, updated_at)

    def allows_read(self, version: int, updated_at: datetime | None) -> bool:
        """The same for a read, for which If-None-Match means another thing (§13.1.2)."""
        if self.one_of is not None and version not in self.one_of:
            return False
        if self.unmodified_since is None or updated_at is None:
            return True
        return updated_at.replace(microsecond=0) <= self.unmodified_since


NO_CONDITION = Precondition()
