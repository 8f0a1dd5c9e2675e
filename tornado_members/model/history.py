"""Records of the changes of members, which audit.enabled keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Kind = Literal["created", "changed", "deleted"]


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller who makes a change, by the claims `iss` and `sub`, and the id of the request.

    A command of the service has only a subject: its name.
    """

    issuer: str | None
    subject: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a record in the history of its member."""

    version: int
    record_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """One change of a member, and the version that it created. A deletion creates the last one.

    `before` and `after` have the changed fields. A creation has no `before`, and a deletion no
    `after`; the other one has all fields.
    """

    position: Position
    kind: Kind
    at: datetime | None
    by: Actor | None
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that clients receive."""
        by = self.by
        return {
            "version": self.position.version,
            "kind": self.kind,
            "at": self.at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" if self.at else None,
            "by": {"issuer": by.issuer, "subject": by.subject} if by else None,
            "requestId": by.request_id if by else None,
            "before": self.before,
            "after": self.after,
        }
