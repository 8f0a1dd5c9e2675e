"""The bodies of many values are parsed as those of each."""

from collections.abc import Iterator, Sequence

import pytest

from tornado_members.lease_cache.entries import (
    Entry,
    are_entries,
    encode_lease,
    encode_value,
    parse_value,
)
from tornado_members.lease_cache.get_commands import entry_lines_in
from tornado_members.lease_cache.key_list import KeyList

EPOCH, OTHER_EPOCH, SCHEMA = b"0123456789abcdef", b"fedcba9876543210", b"@cafe"
KEYS = [b"member:%d" % i for i in range(1, 8)]
BODIES = [b"{}", b"", b"a b", b"a\rb", b"4 V x y", SCHEMA, b'{"a": 1}']


def entry(place: int) -> Entry:
    return Entry(2**63 - 1 - place, b"hash@1700000000" + SCHEMA, BODIES[place])


GOOD = [encode_value(key, EPOCH, entry(place)) for place, key in enumerate(KEYS)]
CHANGES = [
    (b"4 V", b"3 V"),
    (b" V ", b" N "),
    (b" ", b"  "),
    (SCHEMA, b"@beef"),
    (SCHEMA, SCHEMA + b" "),
    (b"hash@1700000000@cafe", b""),
    (b"\n", b""),
    (EPOCH, EPOCH + b" "),
    (EPOCH, EPOCH + b" x"),
    (b"4 V", b"x\n4 V"),
    (EPOCH, OTHER_EPOCH),
]


def bad_values(place: int) -> Iterator[bytes]:
    """Yield what may be stored under a key instead of a usable entry."""
    key = KEYS[place]
    yield encode_value(KEYS[place - 1], EPOCH, entry(place))
    yield encode_value(key, EPOCH, None)
    yield encode_lease(key, EPOCH)
    yield encode_value(key, EPOCH, entry(place)).partition(b"\n")[0]
    yield from (GOOD[place].replace(old, new, 1) for old, new in CHANGES)
    yield b""


def bodies_of_all(keys: Sequence[bytes], stored: Sequence[bytes]) -> list[bytes] | None:
    """Return the bodies of a reply with these values, parsed at once."""
    items = [
        b"VALUE %b 0 %d\r\n%b\r\n" % (key, len(one), one)
        for key, one in zip(keys, stored, strict=True)
    ]
    lines = entry_lines_in(b"".join([*items, b"END\r\n"]), len(keys))
    listed = KeyList.of(b"member:", [key.removeprefix(b"member:") for key in keys])
    if lines is None or not are_entries(lines, listed, EPOCH, SCHEMA):
        return None
    assert [*lines.values()] == [*stored]
    return lines.seconds


def bodies_of_each(stored: Sequence[bytes]) -> list[bytes] | None:
    """Return the bodies, parsed one by one."""
    parsed = [parse_value(key, EPOCH, one) for key, one in zip(KEYS, stored, strict=False)]
    if all(value is not None and value[1].endswith(SCHEMA) for value in parsed):
        return [value[2] for value in parsed if value]
    return None


def test_bodies_are_those_of_each_value() -> None:
    assert bodies_of_all(KEYS, GOOD) == BODIES == bodies_of_each(GOOD)
    assert bodies_of_all(KEYS[:1], GOOD[:1]) == BODIES[:1]


def test_bodies_with_a_line_end_are_left_to_a_parser_of_one_value() -> None:
    for body in (b"a\nb", b"\n", b"4 V x y\n"):
        stored = [encode_value(KEYS[0], EPOCH, Entry(1, SCHEMA, body)), *GOOD[1:]]
        assert bodies_of_all(KEYS, stored) is None, body
    # The line ends of two values make up for each other.
    stored = [GOOD[0].replace(b"\n", b" "), b"x\n" + GOOD[1], *GOOD[2:]]
    assert bodies_of_all(KEYS, stored) is None


@pytest.mark.parametrize("place", [0, 3, 6])
def test_bodies_are_none_if_one_value_is_not_an_entry(place: int) -> None:
    for value in bad_values(place):
        stored = [*GOOD[:place], value, *GOOD[place + 1 :]]
        assert bodies_of_each(stored) is None, value
        assert bodies_of_all(KEYS, stored) is None, value
