"""Memcached commands that are simpler than those of the lease protocol."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from tornado_members.lease_cache.commands import (
    Command,
    checked,
    decode_put,
    take_line,
    unexpected,
)

T = TypeVar("T")

_SIZE_OF_NUMBER = re.compile(rb"VA ([0-9]{1,2}) ?")


class Increments(Command[dict[bytes, int]]):
    """Adds to numbers; the results are the sums. A missing number starts at 0."""

    def __init__(self, amounts: Mapping[bytes, int], ttl: int) -> None:
        super().__init__()
        self.result = {}
        self._keys = [checked(key, ttl) for key in amounts]
        self.request = b"".join(
            b"ma %b N%d J%d D%d v\r\n" % (key, ttl, amount, amount)
            for key, amount in amounts.items()
        )

    def read(self, data: bytes, at: int) -> int:
        for key in self._keys[len(self.result) :]:
            line, start = take_line(data, at)
            if line is None:
                return at
            size = _SIZE_OF_NUMBER.fullmatch(line)
            if size is None:
                raise unexpected(line)
            number, end = take_line(data, start)
            if number is None:
                return at
            if len(number) != int(size[1]) or not number.isdigit():
                raise unexpected(number)
            self.result[key], at = int(number), end
        self.complete()
        return at


class OneLine(Command[T]):
    """A command with a reply of one line."""

    def __init__(self, request: bytes, parse: Callable[[bytes], T]) -> None:
        super().__init__()
        self.request = request
        self._parse = parse

    def read(self, data: bytes, at: int) -> int:
        line, at = take_line(data, at)
        if line is not None:
            self.result = self._parse(line)
            self.complete()
        return at


def set_value(key: bytes, value: bytes, ttl: int) -> OneLine[int | None]:
    """Return a command that stores a value unconditionally; its result is that of a put."""
    checked(key, ttl)
    return OneLine(b"set %b 0 %d %d\r\n%b\r\n" % (key, ttl, len(value), value), decode_put)


def delete(key: bytes) -> OneLine[int | None]:
    """Return a command that removes a value; its result is 0 if there was none."""
    return OneLine(b"delete %b\r\n" % checked(key), decode_put)


def version() -> OneLine[bytes]:
    """Return a command that asks for the version of the server."""
    return OneLine(b"version\r\n", _decode_version)


def _decode_version(line: bytes) -> bytes:
    if not line.startswith(b"VERSION "):
        raise unexpected(line)
    return line
