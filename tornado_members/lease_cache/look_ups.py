"""The results of look-ups on a node, and the statuses of reads."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from tornado_members.lease_cache.entries import Entry, parse_value
from tornado_members.lease_cache.get_commands import EntryLines
from tornado_members.lease_cache.key_list import KeyList

Load = Callable[[], Awaitable[Entry | None]]

# The outcome of a read, as parameters of Cache-Status (RFC 9211 §2).
HIT = "hit"
STORED = "fwd=miss; stored"
LEASED = "fwd=miss; detail=leased"
OVERTAKEN = "fwd=miss; detail=overtaken"
NOT_STORED = "fwd=miss; detail=node-unavailable"
TOO_LARGE = "fwd=miss; detail=too-large"
REFUSED = "fwd=miss; detail=refused"


@dataclass(frozen=True, slots=True)
class Found:
    """The entry that a read found, None if there is none, and how it was found."""

    entry: Entry | None
    status: str


@dataclass(frozen=True, slots=True)
class Miss:
    """The key has no entry: a reader may take a lease."""

    has_term: ClassVar = True
    epoch: bytes
    dead: bytes | None  # an invalid value under the key, if there is one


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that takes five times as long to create
class Hit:
    """The key has an entry, or is known to have none in the database: then `body` is None."""

    has_term: ClassVar = True
    status: ClassVar = HIT  # as of Found
    version: bytes  # its digits
    tag: bytes
    body: bytes | None
    epoch: bytes
    stored: bytes  # the value that contains the entry

    @property
    def entry(self) -> Entry | None:
        """The entry; None if the key has none in the database."""
        return None if self.body is None else Entry(int(self.version), self.tag, self.body)

    @property
    def if_rejected(self) -> Miss:
        """The look-up for a reader that does not accept the entry."""
        return Miss(self.epoch, self.stored)


@dataclass(frozen=True, slots=True)
class Bodies:
    """The values of several keys, each of which is a hit; their second lines are the bodies."""

    keys: KeyList
    epoch: bytes
    lines: EntryLines

    def look_ups(self) -> "list[LookUp]":
        """Return the look-up of each key."""
        look_ups: list[LookUp] = []
        for key, stored in zip(self.keys, self.lines.values(), strict=True):
            found = parse_value(key, self.epoch, stored)
            look_ups.append(Hit(*found, self.epoch, stored) if found else Miss(self.epoch, stored))
        return look_ups


@dataclass(frozen=True, slots=True)
class Leased:
    """Another reader is about to store: this one reads the database only."""

    has_term: ClassVar = True


@dataclass(frozen=True, slots=True)
class Bypass:
    """The node, or this key of it, must not be used: readers read the database only."""

    reason: str
    has_term: bool = field(default=False, compare=False)


NotHit = Miss | Leased | Bypass
LookUp = Hit | NotHit  # `has_term` is True if it has found the term of the node (terms.py)


async def bypass_all(count: int, reason: str) -> list[LookUp]:
    """Return the look-ups of so many keys of a node that must not be read."""
    return [Bypass(reason)] * count


class Fill(NamedTuple):
    """A key that was not a hit, while the database is read.

    With a token, this reader has the lease and stores what it reads. Without one, it stores
    nothing, and `status` has the reason.
    """

    status: str
    epoch: bytes = b""
    token: int | None = None


def bypass(reason: str) -> str:
    """Return the status of a read that bypasses the cache."""
    return f"fwd=bypass; detail={reason}"
