"""The values that the cache stores in Memcached: a line, then the bytes of the response.

    3 V <key> <epoch> <version> <tag>     and the body: what is there
    3 N <key> <epoch>                     nothing is there
    3 L <key> <epoch>                     a reader reads the database, to store what is there
    3 T <key> [<clock>@<reading>] <writer>=<seconds> ...    writes are changing it: a tombstone

The first word is the schema: raised whenever the form of an entry, or of what it holds, changes.
Each carries its own full key, and everything but a tombstone the epoch under which it was begun.
None of it is JSON, so a hit parses none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

_SCHEMA = b"3"
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
    """Somebody's right to store, for as long as it stands untouched."""

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
    """A Value."""
    if entry is None:
        return b"%b N %b %b\n" % (_SCHEMA, key, epoch)
    head = b"%b V %b %b %d %b\n" % (_SCHEMA, key, epoch, entry.version, entry.tag)
    return head + entry.body


def encode_lease(key: bytes, epoch: bytes) -> bytes:
    """A Lease."""
    return b"%b L %b %b\n" % (_SCHEMA, key, epoch)


def encode_tombstone(key: bytes, tombstone: Tombstone) -> bytes:
    """A Tombstone."""
    words = [b"%b@%d" % tombstone.at] if tombstone.at else []
    words += [b"%b=%d" % mark for mark in tombstone.marks]
    return b"%b T %b %b\n" % (_SCHEMA, key, b" ".join(words))


def encode_mark(key: bytes, writer: bytes, seconds: int, at: Reading | None) -> bytes:
    """A Tombstone with one mark, for less."""
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
    """Decode a stored value; None for one of another key or schema, and for nonsense."""
    head, newline, body = stored.partition(b"\n")
    words = head.split(b" ")
    if not newline or len(words) < 4 or words[0] != _SCHEMA or words[2] != key:
        return None
    match words[1], words[3:]:
        case b"V", [epoch, *_] if found := parse_value(key, epoch, stored):
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
    head, newline, body = stored.partition(b"\n")
    try:
        schema, kind, its_key, its_epoch, version, tag = head.split(b" ")
    except ValueError:
        return None
    if its_key != key or its_epoch != epoch or kind != b"V" or schema != _SCHEMA or not newline:
        return None
    if not version.isdigit() or len(version) > _MAX_DIGITS:
        return None
    return version, tag, body


def are_entries(
    keys: Sequence[bytes], epoch: bytes, first_lines: Sequence[bytes], tag_end: bytes
) -> bool:
    """True if these are the first lines of Values of these keys and this epoch, with entries.

    Their tags must end with `tag_end`. All are compared at once. False without keys.
    """
    count = len(keys)
    words = b" \n ".join(first_lines).split(b" ")  # the line ends count the lines
    if not count or len(words) != 7 * count - 1:
        return False
    schemas, kinds, its_keys, epochs, versions, tags, ends = (words[i::7] for i in range(7))
    return (
        its_keys == [*keys]
        and ends.count(b"\n") == count - 1
        and schemas.count(_SCHEMA) == kinds.count(b"V") == epochs.count(epoch) == count
        and all(map(bytes.isdigit, versions))
        and max(map(len, versions)) <= _MAX_DIGITS
        and all(map(bytes.endswith, tags, repeat(tag_end)))
    )


def _decode_tombstone(words: list[bytes]) -> Tombstone | None:
    reading = _READING.fullmatch(words[0])
    marks = [word.partition(b"=") for word in (words[1:] if reading else words)]
    if not marks or not all(writer and _SECONDS.fullmatch(seconds) for writer, _, seconds in marks):
        return None
    at = Reading(reading[1], int(reading[2])) if reading else None
    return Tombstone(tuple((writer, int(seconds)) for writer, _, seconds in marks), at)
