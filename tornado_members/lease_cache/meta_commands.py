"""Memcached commands that aiomcache lacks, encoded and parsed (its doc/protocol.txt).

Only the meta commands return the time that a value has left. They need Memcached 1.6. Values are
stored by the classic commands: a "Meta Set" that the server refuses, since the value is too large
or memory is short, removes what is under the key, such as the tombstone of a writer. `add` and
`cas` leave it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tornado_members.lease_cache.connection import MAX_ITEM, MemcachedConnection

MAX_TTL = 30 * 86400  # seconds; the protocol takes anything above for a date
MAX_VALUE = MAX_ITEM - 1024  # bytes; an item has its key and a head as well
_KEY = re.compile(rb"[!-~]{1,250}")
_KEYS = re.compile(rb"[!-~]{1,250}(?: [!-~]{1,250})*")
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
    `wants_token` asks for the token of the stored value, in the same request.
    """

    key: bytes
    value: bytes
    ttl: int | None
    token: int | None = None
    wants_token: bool = False


def checked(key: bytes, ttl: int | None = None) -> bytes:
    """Return the key. Raises ValueError if it or the time to live is not valid for Memcached."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a valid key")
    if ttl is not None and not 1 <= ttl <= MAX_TTL:
        raise ValueError(f"{ttl} seconds is not a valid time to live")
    return key


def encode_get(keys: Sequence[bytes]) -> bytes:
    """Encode a `get` of these keys."""
    line = b" ".join(keys)
    if not _KEYS.fullmatch(line) or line.count(b" ") != len(keys) - 1:
        for key in keys:
            checked(key)
    return b"get %b\r\n" % line


def encode_gets(key: bytes) -> bytes:
    """Encode a question that `read_held` reads the answer of."""
    return b"mg %b k c f t v\r\n" % key


def encode_put(put: Put) -> bytes:
    """Encode an `add` or a `cas`, or a "Meta Delete" for a time to live of 0."""
    if put.token is None:
        checked(put.key, put.ttl)
        head = b"add %b 0 %d %d" % (put.key, put.ttl or 0, len(put.value))
    else:
        checked(put.key, put.ttl or None)
        if put.ttl == 0:
            return b"md %b C%d\r\n" % (put.key, put.token)
        head = b"cas %b 0 %d %d %d" % (put.key, put.ttl or 0, len(put.value), put.token)
    question = encode_gets(put.key) if put.wants_token else b""
    return b"%b\r\n%b\r\n%b" % (head, put.value, question)


def encode_increment(key: bytes, amount: int, ttl: int) -> bytes:
    """Encode an addition to a number, which begins as `amount` if it is missing."""
    return b"ma %b N%d J%d D%d v\r\n" % (checked(key, ttl), ttl, amount, amount)


async def read_number(reader: MemcachedConnection) -> int:
    """Read the reply to an addition."""
    status, *words = (await reader.readline()).split()
    if status != b"VA":
        raise _unexpected(status)
    return int((await reader.readexactly(int(words[0]) + 2))[:-2])


async def read_put(reader: MemcachedConnection, put: Put) -> int | None:
    """Read the reply to a put: 1 if it was stored, 0 if it was not, None if it was refused.

    Instead of 1, a put that wants its token returns that, or 0 if another client was faster.
    """
    stored = _decode_put(await reader.readline())
    if put.wants_token and put.ttl != 0:
        held = await read_held(reader, put.key)
        if stored:
            # An equal value that another client stored since then is as good: what touches it from
            # here on makes the token invalid.
            stored = held.token if held and held.value == put.value else 0
    return stored


def _decode_put(line: bytes) -> int | None:
    if line in _REFUSALS:
        return None
    status = line.strip().partition(b" ")[0]
    if status in (b"STORED", b"HD"):
        return 1
    if status in (b"NOT_STORED", b"EXISTS", b"NOT_FOUND", b"EX", b"NF"):
        return 0
    raise _unexpected(status)


async def read_held(reader: MemcachedConnection, key: bytes) -> Held | None:
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
