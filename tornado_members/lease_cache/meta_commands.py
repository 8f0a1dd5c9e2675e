"""Memcached's meta commands, encoded and parsed (memcached's doc/protocol.txt, "Meta Commands").

aiomcache does not know them. Only they return the token of a stored value, and the time that a
value has left. They need Memcached 1.6.
"""

import asyncio
import re
from typing import NamedTuple

from tornado_members.lease_cache.connection import MAX_ITEM

MAX_TTL = 30 * 86400  # seconds; the protocol takes anything above for a date
MAX_VALUE = MAX_ITEM - 1024  # bytes; an item has its key and a head as well
_KEY = re.compile(rb"[!-~]{1,250}")
# The server is well: the value is above its -I, or it evicts nothing (-M) and is full.
_REFUSALS = (
    b"SERVER_ERROR object too large for cache\r\n",
    b"SERVER_ERROR out of memory storing object\r\n",
)


class Held(NamedTuple):
    """A stored value, the token that replaces it (`Put`), and the seconds until it expires.

    `seconds_left` is a whole number by the server's own clock; None if the value never expires.
    """

    value: bytes
    token: int
    seconds_left: int | None


class Put(NamedTuple):
    """A value to store if nothing is there; with a token of `gets_many`, if nothing touched it.

    `ttl` is seconds; None is for ever, and 0, which needs a token, removes what is there.
    """

    key: bytes
    value: bytes
    ttl: int | None
    token: int | None = None


def checked(key: bytes, ttl: int | None = None) -> bytes:
    """Return the key. Raises ValueError if it or the time to live is not valid for Memcached."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a valid key")
    if ttl is not None and not 1 <= ttl <= MAX_TTL:
        raise ValueError(f"{ttl} seconds is not a valid time to live")
    return key


def encode_gets(key: bytes) -> bytes:
    """Encode a question that `read_held` reads the answer of."""
    return b"mg %b k c f t v\r\n" % key


def encode_put(put: Put) -> bytes:
    """Encode a "Meta Set", or a "Meta Delete" for a time to live of 0."""
    if put.token is None:
        checked(put.key, put.ttl)
        mode = b"ME"
    else:
        checked(put.key, put.ttl or None)
        mode = b"C%d" % put.token
        if put.ttl == 0:
            return b"md %b %b\r\n" % (put.key, mode)
    words = (put.key, len(put.value), mode, put.ttl or 0, put.value)
    return b"ms %b %d %b T%d c\r\n%b\r\n" % words


def decode_put(line: bytes) -> int | None:
    """Return the token of the stored value, 0 if it was not stored, None if it was refused."""
    if line in _REFUSALS:
        return None
    status, *flags = line.split()
    if status == b"HD":
        tokens = [int(flag[1:]) for flag in flags if flag.startswith(b"c")]
        return max(tokens, default=1)
    if status in (b"NS", b"EX", b"NF"):
        return 0
    raise _unexpected(status)


async def read_held(reader: asyncio.StreamReader, key: bytes) -> Held | None:
    """Read one reply to a "Meta Get"; None if the key has no value. Raises on any other reply."""
    status, *words = (await reader.readline()).split()
    if status == b"EN" and words in ([], [b"k" + key]):  # the version of Memcached decides which
        return None
    if status != b"VA":
        raise _unexpected(status)
    size, *flags = words
    returned = {flag[:1]: flag[1:] for flag in flags}
    if returned[b"k"] != key:
        raise _unexpected(status)
    value = (await reader.readexactly(int(size) + 2))[:-2]
    left = int(returned[b"t"])
    # Values of this program have no client flags: one that has is another program's.
    ours = value if returned[b"f"] == b"0" else b""
    return Held(ours, int(returned[b"c"]), None if left < 0 else left)


def _unexpected(status: bytes) -> ConnectionError:
    if status == b"ERROR":
        return ConnectionError("knows no meta commands; Memcached 1.6 or later is required")
    return ConnectionError("answered another question")
