"""The keys, entries and tags under which the cache stores members.

| key | entry |
|---|---|
| `member:42` | the member's version, a tag, and the bytes of its JSON |
| `name:` and the hash of a name | the id of the member with this name |

The tag of a member's entry is `NAME_HASH@SECONDS@SCHEMA`. NAME_HASH shows without parsing whether
the member has a name. SECONDS is the time of its last change. SCHEMA is the digest of the fields:
a process with other fields would send other bytes, so it does not use the entry.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple, Self

from tornado_members.errors import MemberNotFound
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import HIT, Found, Hit, LookUp
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MAX_MEMBER_ID, Member

MemberKeys = KeyList  # of the entries of several members
CACHE_HIT: Final = HIT  # the cache status of a hit
_MEMBER: Final = b"member:"
MEMBER_KEY: Final = _MEMBER + b"%d"  # the key of a member's entry, without its id
_NO_TAG = b"-"  # of name entries
_SECONDS = slice(33, -9)  # in a tag: after 32 characters of a hash, before 8 of a schema
_MAX_DIGITS = 11  # of seconds since the epoch, up to the year 5138


class Representation(NamedTuple):
    """A member as it is sent: its version, and the bytes of its body."""

    member_id: int
    version: int
    body: bytes
    updated_at: datetime | None
    cache_status: str | None = None  # the parameters of Cache-Status (RFC 9211)


@dataclass(frozen=True, slots=True)
class MemberBatch:
    """Several members: their bodies in the order requested, and the ids that no member has.

    `cache_status` has the parameters of Cache-Status (RFC 9211).
    """

    bodies: list[bytes]
    missing: list[int]
    cache_status: str

    @property
    def hits(self) -> int:
        """The number of cache hits, if the cache had an entry for each id."""
        return len(self.bodies) + len(self.missing)

    @classmethod
    def of(cls, entries: Mapping[int, Entry | None], cache_status: str) -> Self:
        """Make a batch of entries by member id, in the order requested."""
        bodies = [entry.body for entry in entries.values() if entry is not None]
        missing = [member_id for member_id, entry in entries.items() if entry is None]
        return cls(bodies, missing, cache_status)


class MemberEntries:
    """Entries of members with these fields."""

    def __init__(self, fields: FieldTable) -> None:
        self.schema = b"@" + fields.digest  # the end of each tag

    def of_member(self, member: Member | None) -> Entry | None:
        """Return the entry of a member; None if no member has the id."""
        if member is None:
            return None
        changed = b"%d" % member.updated_at.timestamp() if member.updated_at else b""
        tag = _name_hash(member.name) + b"@" + changed + self.schema
        return Entry(member.version, tag, member.to_json())

    def is_usable(self, entry: Entry | None) -> bool:
        """True if a process with the same fields stored the entry, or the absence of a member."""
        return entry is None or entry.tag.endswith(self.schema)


def usable(look_up: LookUp, schema: bytes) -> LookUp:
    """Return a look-up in which an entry of a process with other fields is a miss."""
    if not isinstance(look_up, Hit) or look_up.body is None or look_up.tag.endswith(schema):
        return look_up
    return look_up.if_rejected


def id_key(member_id: int) -> bytes:
    """Return the key of a member's entry."""
    return MEMBER_KEY % member_id


def id_keys(listed: str) -> MemberKeys:
    """Return the keys of the entries of several members, each once.

    `listed` has their ids, in decimal digits and separated by commas.
    """
    ids: Collection[str] = listed.split(",")
    if len(set(ids)) < len(ids):
        ids = dict.fromkeys(ids)
    return MemberKeys(_MEMBER, " ".join(ids).encode(), len(ids))


def keys_of_ids(member_ids: Sequence[int]) -> MemberKeys:
    """Return the keys of the entries of several members, whose ids are distinct."""
    return MemberKeys(_MEMBER, " ".join(map(str, member_ids)).encode(), len(member_ids))


def member_id_of(key: bytes) -> int:
    """Return the id of the member whose entry has this key."""
    return int(key.removeprefix(_MEMBER))


def member_ids_of(keys: MemberKeys) -> Iterator[int]:
    """Return the ids of the members whose entries have these keys."""
    return map(int, keys.ends.split(b" "))


def name_key(name: str) -> bytes:
    """Return the key of a name's entry."""
    return b"name:" + _name_hash(name)


def name_entry(member: Member | None) -> Entry | None:
    """Return the entry of the member's name; None if no member has the name."""
    return None if member is None else Entry(0, _NO_TAG, b"%d" % member.member_id, source=member)


def member_id_in(entry: Entry) -> int | None:
    """Return the id in the entry of a name; None if the entry is not valid."""
    is_id = entry.body.isdigit() and len(entry.body) <= len(str(MAX_MEMBER_ID))
    return int(entry.body) if is_id and 1 <= int(entry.body) <= MAX_MEMBER_ID else None


def has_name(entry: Entry, name: str) -> bool:
    """True if the entry is that of a member with this name."""
    return entry.tag.startswith(_name_hash(name) + b"@")


def represent_entry(member_id: int, entry: Entry, cache_status: str) -> Representation:
    """Return the member of an entry, without parsing its body."""
    updated_at = _date(entry.tag[_SECONDS])
    return Representation(member_id, entry.version, entry.body, updated_at, cache_status)


def represent_found(member_id: int, found: Found | Hit) -> Representation | None:
    """Return the member of a read or of a hit; None if no member has the id."""
    if not isinstance(found, Hit):
        entry = found.entry
        return None if entry is None else represent_entry(member_id, entry, found.status)
    if found.body is None:
        return None
    updated_at = _date(found.tag[_SECONDS])
    return Representation(member_id, int(found.version), found.body, updated_at, HIT)


def represent_loaded(
    member_id: int, found: Mapping[bytes, Found]
) -> Representation | MemberNotFound | None:
    """Return a member of those that were loaded, by their keys; None if it was not among them.

    Returns MemberNotFound if no member has the id.
    """
    loaded = found.get(MEMBER_KEY % member_id)
    if loaded is None:
        return None
    member = represent_found(member_id, loaded)
    return member or MemberNotFound(str(member_id), cache_status=loaded.status)


@lru_cache(4096)
def _date(seconds: bytes) -> datetime | None:
    """Return the time of these digits; None if they are not valid."""
    is_date = seconds.isdigit() and len(seconds) <= _MAX_DIGITS
    return datetime.fromtimestamp(int(seconds), UTC) if is_date else None


def represent(member: Member, cache_status: str | None = None) -> Representation:
    """Return a member that was read from MongoDB."""
    return Representation(
        member.member_id, member.version, member.to_json(), member.updated_at, cache_status
    )


@lru_cache(1024)
def _name_hash(name: str) -> bytes:
    """Return the hash of a name: keys may not contain all characters that names may.

    Clients may request names with a lone surrogate, which no member has.
    """
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest().encode()
