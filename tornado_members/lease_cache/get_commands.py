"""The Memcached command `get`, whose reply is parsed in one pass once it is complete.

One pass takes a third of the time of parsing value by value. Large and malformed replies are parsed
value by value.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple, Self

from tornado_members.lease_cache.commands import LINE_END, MAX_ITEM, Command, Items
from tornado_members.lease_cache.key_list import KeyList

_VALUE: Final = re.compile(
    rb"VALUE (?P<key>[!-~]{1,250}) (?P<flags>[0-9]{1,10}) (?P<size>[0-9]{1,8})\r\n"
)
_LAST_LINE: Final = b"END"
_FIRST_VALUE, _AFTER_VALUES = b"VALUE ", b"\r\nEND\r\n"
_MOST_IN_ONE_PASS: Final = MAX_ITEM  # bytes; of a larger reply, each value is parsed on arrival


class EntryLines(NamedTuple):
    """The lines of a reply whose values seem to have three lines each.

    `firsts` are all first lines, with their line ends. Those in `lasts` end with a carriage return.
    """

    reply: bytes
    firsts: bytes
    seconds: list[bytes]
    lasts: list[bytes]

    def values(self) -> Iterator[bytes]:
        """Yield the values, if they have three lines each: others may make up for each other."""
        lasts = [line.removesuffix(b"\r") for line in self.lasts]
        lines = zip(self.firsts.split(b"\n"), self.seconds, lasts, strict=False)
        return map(b"%b\n%b\n%b".__mod__, lines)


class Get(Items[bytes]):
    """Reads values. One with client flags is another program's, and treated as empty."""

    form = b"get ", b" ", b"\r\n"
    head, last_line = _VALUE, _LAST_LINE
    _searched = 0  # bytes of the reply in which its end was not found

    def read(self, data: bytes, at: int) -> int:
        if self.result or not data.startswith(_FIRST_VALUE, at):
            return super().read(data, at)
        # The end may have arrived in two pieces.
        last = data.find(_AFTER_VALUES, at + max(0, self._searched - len(_AFTER_VALUES)))
        if last < 0 and len(data) - at < _MOST_IN_ONE_PASS:
            self._searched = len(data) - at
            return at
        end = last + len(_AFTER_VALUES)
        values = self.parse_whole(data[at:end]) if last >= 0 else None
        if values is None:
            return super().read(data, at)
        self.result = values
        self.is_complete = True
        return end

    def parse(self, head: re.Match[bytes], value: bytes) -> bytes:
        return value if head["flags"] == b"0" else b""

    def parse_whole(self, reply: bytes) -> Any:
        """Parse a complete reply in one pass; None if that fails."""
        return values_in(reply, [*self.keys])


class GetEntries(Get):
    """Reads the values of a list of keys: the result is EntryLines if each is an entry."""

    result: Any

    def __init__(self, keys: KeyList) -> None:
        Command.__init__(self)
        if not keys.ends.replace(b" ", b"").isalnum():
            raise ValueError(f"{keys.ends!r} are not letters and digits")
        self.result = {}
        self._list = keys
        self.request = self.shared_as = b"get%b\r\n" % keys.enclosed(b" ", b"")

    @cached_property
    def keys(self) -> dict[bytes, None]:  # type: ignore[override]
        """The keys, which the reply of entries is not compared with."""
        return dict.fromkeys(self._list)

    def join(self, other: Self) -> None:
        self.futures += other.futures

    def parse_whole(self, reply: bytes) -> Any:
        return entry_lines_in(reply, self._list.count) or super().parse_whole(reply)


def parse_values(reply: bytes, keys: KeyList) -> dict[bytes, bytes]:
    """Parse a complete reply to a `get` of these keys, value by value. Raises ConnectionError."""
    command = Get([*keys])
    command.read(reply, 0)
    if not command.is_complete:
        raise ConnectionError("sent values of other lengths than it announced")
    return command.result


def values_in(reply: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """Parse a complete reply to a `get` of these distinct keys; None if that fails.

    It fails if a value contains a line end or has client flags, if the values are not in the order
    of the keys, and if the reply is malformed.
    """
    *parts, last_line, rest = reply.split(LINE_END)
    heads, values = parts[::2], parts[1::2]
    found: dict[bytes, bytes] = {}
    for place, key in enumerate(keys):
        if len(keys) - place == len(values) - len(found):  # so each of the others has a value
            found.update(zip(keys[place:], values[len(found) :], strict=True))
            break
        if len(found) < len(values) and heads[len(found)].startswith(b"VALUE %b " % key):
            found[key] = values[len(found)]
    expected = map(b"VALUE %b 0 %d".__mod__, zip(found, map(len, values), strict=False))
    is_whole = last_line == _LAST_LINE and not rest and len(found) == len(values)
    return found if is_whole and [*expected] == heads else None


def entry_lines_in(reply: bytes, count: int) -> EntryLines | None:
    """Divide a complete reply into the lines of so many values; None if it has too many or too few.

    The keys and the sizes that Memcached announces are not examined, so the caller must compare the
    first lines with those of the entries.
    """
    lines = reply.split(b"\n")
    if len(lines) != 4 * count + 2 or lines[-2] != b"END\r" or lines[-1]:
        return None
    firsts = b"\n".join(lines[1::4])  # the last one is empty
    return EntryLines(reply, firsts, lines[2::4], lines[3::4])
