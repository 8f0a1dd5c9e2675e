"""Who changed what: what is kept of each change of a member, where audit.enabled is set."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Kind = Literal["created", "changed", "deleted"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever makes a change: an issuer's word for who they are, and the request it came with.

    A command of ours has a subject, its name, and nothing else.
    """

    issuer: str | None
    subject: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in the history of its member."""

    version: int
    record_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """One change of a member, and the version that it made; a deletion makes the last one.

    `before` and `after` have the fields that were changed, and all of them at the beginning and
    the end; None stands for a member that was not there.
    """

    place: Place
    kind: Kind
    at: datetime | None
    by: Actor | None
    before: Mapping[str, str | None] | None
    after: Mapping[str, str | None] | None

    def to_dict(self) -> dict[str, Any]:
        """The record as it goes over the wire."""
        by = self.by
        return {
            "version": self.place.version,
            "kind": self.kind,
            "at": self.at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" if self.at else None,
            "by": {"issuer": by.issuer, "subject": by.subject} if by else None,
            "requestId": by.request_id if by else None,
            "before": self.before,
            "after": self.after,
        }
