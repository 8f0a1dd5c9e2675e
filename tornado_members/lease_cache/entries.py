"""The values that the cache stores in Memcached.

    4 V <key> <epoch>                     an entry: in the next lines the bytes of the response,
                                          and in the last line `<version> <tag>`
    4 N <key> <epoch>                     nothing is there
    4 L <key> <epoch>                     a reader reads the database, to store what is there
    4 T <key> [<clock>@<reading>] <writer>=<seconds> ...    writes are changing it: a tombstone

The first word is the schema. It is raised whenever the form of a value, or of a response, changes.
Each value contains its own full key. All but tombstones contain the epoch under which they were
begun. No value is JSON, so a hit parses none. The first line of an entry depends on its key and the
epoch only, so that those of many entries are compared at once.
"""

import re
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from tornado_members.lease_cache.get_commands import EntryLines
from tornado_members.lease_cache.key_list import KeyList

_SCHEMA = b"4"
_MAX_DIGITS = 19  # of a version
_SECONDS = re.compile(rb"[1-9][0-9]{0,8}")
_READING = re.compile(rb"([^@=]{1,32})@([0-9]{1,9})")


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that takes five times as long to create
class Entry:
    """An entry: a version, the caller's tag, and the bytes of the response."""

    version: int
    tag: bytes  # one word of ASCII, by which the caller recognises the entry
    body: bytes
    # An object that was loaded with the entry, for the reader that loaded it. It is not stored.
    source: object = field(default=None, compare=False)


class Reading(NamedTuple):
    """A reading of a node's clock, which counts seconds down."""

    clock: bytes  # another word for each clock that the node has had
    seconds_left: int


class Value(NamedTuple):
    """A stored answer: the entry, or None for "nothing is there"."""

    epoch: bytes
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one reader to store an entry, until another command touches the key."""

    epoch: bytes


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Writes under way. It counts in every epoch.

    Each writer's mark is its name and the seconds that it had left at the reading of the node's
    clock (node_clock.py). The tombstone was stored to live as long as the last of its marks.
    """

    marks: tuple[tuple[bytes, int], ...]
    at: Reading | None = None  # None if the node had no clock: then when it was stored

    @property
    def ttl(self) -> int:
        """The time to live with which it was stored, in seconds."""
        return max(seconds for _, seconds in self.marks)


def encode_value(key: bytes, epoch: bytes, entry: Entry | None) -> bytes:
    """Encode a Value."""
    if entry is None:
        return b"%b N %b %b\n" % (_SCHEMA, key, epoch)
    parts = _SCHEMA, key, epoch, entry.body, entry.version, entry.tag
    return b"%b V %b %b\n%b\n%d %b" % parts


def encode_lease(key: bytes, epoch: bytes) -> bytes:
    """Encode a Lease."""
    return b"%b L %b %b\n" % (_SCHEMA, key, epoch)


def encode_tombstone(key: bytes, tombstone: Tombstone) -> bytes:
    """Encode a Tombstone."""
    words = [b"%b@%d" % tombstone.at] if tombstone.at else []
    words += [b"%b=%d" % mark for mark in tombstone.marks]
    return b"%b T %b %b\n" % (_SCHEMA, key, b" ".join(words))


def encode_mark(key: bytes, writer: bytes, seconds: int, at: Reading | None) -> bytes:
    """Encode a Tombstone with one mark, without creating it."""
    reading = b"%b@%d " % at if at else b""
    return b"%b T %b %b%b=%d\n" % (_SCHEMA, key, reading, writer, seconds)


def is_only_mark(key: bytes, stored: bytes, writer: bytes, seconds: int) -> bool:
    """True if a stored value is a Tombstone with this mark only."""
    return (
        stored.endswith(b" %b=%d\n" % (writer, seconds))
        and stored.startswith(b"%b T %b " % (_SCHEMA, key))
        and stored.count(b"=") == 1 + key.count(b"=")
    )


def decode(key: bytes, stored: bytes) -> Value | Lease | Tombstone | None:
    """Decode a stored value; None for one of another key or schema, and for a malformed one."""
    head, newline, body = stored.partition(b"\n")
    words = head.split(b" ")
    if not newline or len(words) < 4 or words[0] != _SCHEMA or words[2] != key:
        return None
    match words[1], words[3:]:
        case b"V", [epoch] if found := parse_value(key, epoch, stored):
            version, tag, body = found
            return Value(epoch, Entry(int(version), tag, body))
        case b"N", [epoch] if not body:
            return Value(epoch, None)
        case b"L", [epoch] if not body:
            return Lease(epoch)
        case b"T", words if not body:
            return _decode_tombstone(words)
    return None


def parse_value(key: bytes, epoch: bytes, stored: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return the digits of the version, the tag and the body of a Value of this epoch.

    None for anything else, also for a Value without an entry.
    """
    first, _, rest = stored.partition(b"\n")
    if first != b"%b V %b %b" % (_SCHEMA, key, epoch):
        return None
    body, newline, last = rest.rpartition(b"\n")
    version, space, tag = last.partition(b" ")
    if not newline or not space or b" " in tag:
        return None
    if not version.isdigit() or len(version) > _MAX_DIGITS:
        return None
    return version, tag, body


def are_entries(lines: EntryLines, keys: KeyList, epoch: bytes, tag_end: bytes) -> bool:
    """True if these are the lines of Values of these keys and this epoch, with entries.

    Their tags must end with `tag_end`. All are compared at once. Their versions are not parsed.
    """
    firsts = keys.enclosed(_SCHEMA + b" V ", b" %b\n" % epoch)
    return lines.firsts == firsts and all(map(bytes.endswith, lines.lasts, repeat(tag_end + b"\r")))


def _decode_tombstone(words: list[bytes]) -> Tombstone | None:
    reading = _READING.fullmatch(words[0])
    marks = [word.partition(b"=") for word in (words[1:] if reading else words)]
    if not marks or not all(writer and _SECONDS.fullmatch(seconds) for writer, _, seconds in marks):
        return None
    at = Reading(reading[1], int(reading[2])) if reading else None
    return Tombstone(tuple((writer, int(seconds)) for writer, _, seconds in marks), at)
