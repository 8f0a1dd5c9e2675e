"""Parses complete replies to a `get` of many keys, all values at once.

That takes a third of the time of parsing value by value.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Final

LINE_END: Final = b"\r\n"
LAST_LINE: Final = b"END"


class Lines(dict[bytes, bytes]):
    """A few values by key, and the lines of others, each of which has two."""

    def __init__(
        self, values: Mapping[bytes, bytes], firsts: list[bytes], seconds: list[bytes]
    ) -> None:
        super().__init__(values)
        self.firsts, self.seconds = firsts, seconds

    def all_values(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values of all keys; `keys` are those of the lines."""
        return {**self, **dict(zip(keys, join_lines(self.firsts, self.seconds), strict=True))}


def values_in(reply: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """Parse a complete reply to a `get` of these distinct keys; None if that fails.

    It takes a third of the time of parsing value by value. It fails if a value contains a line end
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


def lines_in(reply: bytes, before: Sequence[bytes], keys: Sequence[bytes]) -> Lines | None:
    """Parse the same for values of `before`, and then of `keys`, each of which has two lines.

    None if that fails: for the reasons of `values_in`, or if one of `keys` has no such value.
    """
    start = reply.find(b"\r\nVALUE %b " % keys[0]) + len(LINE_END)
    values = values_in(reply[:start] + LAST_LINE + LINE_END, before)
    # For each key, the line of Memcached, and two of the value; the second ends with \r.
    *lines, last_line, rest = reply[start:].split(b"\n")
    heads, firsts, seconds = lines[::3], lines[1::3], lines[2::3]
    sizes = map(add, map(len, firsts), map(len, seconds))
    expected = map(b"VALUE %b 0 %d\r".__mod__, zip(keys, sizes, strict=False))
    is_whole = last_line == LAST_LINE + b"\r" and not rest and len(lines) == 3 * len(keys)
    if values is None or not is_whole or [*expected] != heads:
        return None
    return Lines(values, firsts, [line[:-1] for line in seconds])


def join_lines(firsts: Iterable[bytes], seconds: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the values of two lines."""
    return map(b"%b\n%b".__mod__, zip(firsts, seconds, strict=True))
