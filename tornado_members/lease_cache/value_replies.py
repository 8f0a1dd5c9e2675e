"""Parses complete replies to a `get` of many keys, all values at once.

That takes a third of the time of parsing value by value.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

LINE_END: Final = b"\r\n"
LAST_LINE: Final = b"END"


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


def values_in(reply: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """Parse a complete reply to a `get` of these distinct keys; None if that fails.

    It fails if a value contains a line end
    or has client flags, if the values are not in the order of the keys, and if it is malformed.
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
    is_whole = last_line == LAST_LINE and not rest and len(found) == len(values)
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
