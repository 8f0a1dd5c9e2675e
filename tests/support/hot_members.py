"""The few members that all clients read and change concurrently, and the recorded operations.

There are four kinds, one for each cause of an old response:
- *steady* members keep their name, and are replaced by id and by name;
- *resting* members are read like those, and changed only through a service that is cut off: no
  later change hides that they are old;
- *renamed* members alternate between two names of their own, and are replaced by id;
- *short-lived* members are created under a name, changed and deleted repeatedly by one writer.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.support.histories import GONE, Operation
from tests.support.http_client import Reply

_HITS_OF_BATCH = re.compile(rb"detail=([0-9]+)/([0-9]+)")
_KEPT_IDS = 3  # the last members of a name, which are still read after their deletion


LEVELS: Final = ("bronze", "silver", "gold")
# What the services declare as `members.attributes` if the contents have attributes.
ATTRIBUTES: Final[dict[str, Any]] = {
    "level": {"type": "string", "enum": [*LEVELS], "indexed": True},
    "score": {"type": "integer"},
    "tags": {"type": "string", "list": True},
}


class ShortLivedName:
    """A name, and the members that had it. Its generations are odd while it is assigned."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.generation = 0
        self.ids: list[int] = []
        self._generations: dict[int, int] = {}

    def assign(self, member_id: int) -> None:
        """Record that the name now belongs to this member."""
        self._generations[member_id] = self.generation
        self.ids = [*self.ids, member_id][-_KEPT_IDS:]

    def generation_of(self, member_id: int) -> int | None:
        """Return the generation of a member's name; None if its writer does not know it yet."""
        return self._generations.get(member_id)


class HotMembers:
    """The ids and names of the members, and contents for them."""

    def __init__(self, run: str, *, with_attributes: bool = False) -> None:
        """`run` makes the names unique to this run. With attributes, contents have those below."""
        self.steady: dict[int, str] = {}
        self.resting: dict[int, str] = {}
        self.renamed: dict[int, tuple[str, str]] = {}
        self.short_lived_names: dict[str, ShortLivedName] = {}
        self._run = run
        self._with_attributes = with_attributes
        self._names = 0
        self._changes = 0

    def new_name(self) -> str:
        """Return a name that no member has."""
        self._names += 1
        return f"{self._run} {self._names}"

    def content(self, name: str | None = None) -> bytes:
        """Return a body that was never sent before, so that every write is a change."""
        self._changes += 1
        content: dict[str, Any] = {"phone": f"555 {self._changes:07}"}
        if name is not None:
            content["name"] = name
        if self._with_attributes:
            content["attributes"] = {
                "level": LEVELS[self._changes % len(LEVELS)],
                "score": self._changes % 1000,
                "tags": [f"tag {number}" for number in range(self._changes % 4)],
            }
        return json.dumps(content).encode()

    def short_lived_ids(self) -> dict[int, str]:
        """Return the names of short-lived members by their ids: some exist, some are deleted."""
        names = self.short_lived_names.values()
        return {
            member_id: short_lived.name for short_lived in names for member_id in short_lived.ids
        }


@dataclass
class Record:
    """All recorded operations."""

    operations: list[Operation] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)  # 0: without a response
    failures: list[tuple[float, str, int]] = field(default_factory=list)  # 5xx: when, who, status
    wrong_responses: list[str] = field(default_factory=list)  # wrong by their contents alone
    unknown: int = 0  # writes whose outcome is unknown
    batched: int = 0  # members that were read in batches
    listed: int = 0  # members that were read in lists
    hits: int = 0
    reads_with_status: int = 0  # of members, that had a Cache-Status; of a batch, each counts
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the clients and their records, proxies included

    def note(
        self,
        reply: Reply,
        process: str,
        kind: Literal["read", "write"],
        register: int | str,
        version: int | None,
    ) -> None:
        """Record an operation on a member, or on a name."""
        has_body = isinstance(register, int) and reply.status in (200, 201)
        body = hash(reply.body) if has_body else 0
        self.operations.append(
            Operation(reply.start, reply.end, process, kind, register, version, reply.status, body)
        )

    def note_item(self, reply: Reply, process: str, member_id: int, item: bytes | None) -> None:
        """Record one member of a batch or list, whose version is unknown; None if it is missing."""
        version, body = (GONE, 0) if item is None else (None, hash(item))
        self.operations.append(
            Operation(reply.start, reply.end, process, "read", member_id, version, 200, body)
        )

    def note_cache_status(self, reply: Reply, members: int = 1) -> None:
        """Count the hits among the members of a read, which Cache-Status states (RFC 9211)."""
        if status := reply.headers.get(b"cache-status"):
            self.reads_with_status += members
            if b"; hit" in status:
                self.hits += members
            elif of_batch := _HITS_OF_BATCH.search(status):
                self.hits += int(of_batch[1])

    def count(self, kind: Literal["read", "write"]) -> int:
        """Return the number of operations of a kind on members."""
        return sum(a.kind == kind and isinstance(a.register, int) for a in self.operations)
