"""Memcached commands that aiomcache lacks, encoded and parsed (its doc/protocol.txt).

Only the meta commands return the time that a value has left. They need Memcached 1.6. Values are
stored by the classic commands: a "Meta Set" that the server refuses, since the value is too large
or memory is short, removes what is under the key, such as the tombstone of a writer. `add` and
`cas` leave it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tornado_members.lease_cache.connection import MAX_ITEM, MemcachedConnection, unexpected

MAX_TTL = 30 * 86400  # seconds; the protocol takes anything above for a date
MAX_VALUE = MAX_ITEM - 1024  # bytes; an item has its key and a head as well
_KEY = re.compile(rb"[!-~]{1,250}")
_KEYS = re.compile(rb"[!-~]{1,250}(?: [!-~]{1,250})*")
# The reply to `encode_gets` for a key that has a value.
_HELD = re.compile(
    rb"VA (?P<size>[0-9]{1,8}) k(?P<key>[!-~]{1,250}) c(?P<token>[0-9]{1,20})"
    rb" f(?P<flags>[0-9]{1,10}) t(?P<left>-1|[0-9]{1,10})\r\n"
)
_NO_MORE = b"MN\r\n"  # the reply to "Meta No-Op", after those to quiet commands
# The server is well: the value is above its -I, or it evicts nothing (-M) and is full.
_REFUSALS = (
    b"SERVER_ERROR object too large for cache",
    b"SERVER_ERROR out of memory storing object",
)
# The classic and the meta commands' words for "stored or removed", and for "not".
_RESULTS = {
    **dict.fromkeys((b"STORED", b"HD"), 1),
    **dict.fromkeys((b"NOT_STORED", b"EXISTS", b"NOT_FOUND", b"EX", b"NF"), 0),
}


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
        raise _invalid_ttl(ttl)
    return key


def _invalid_ttl(ttl: int) -> ValueError:
    return ValueError(f"{ttl} seconds is not a valid time to live")


def encode_get(keys: Sequence[bytes]) -> bytes:
    """Encode a `get` of these keys."""
    _check_all(keys)
    return b"get %b\r\n" % b" ".join(keys)


def _check_all(keys: Sequence[bytes]) -> None:
    """Raise ValueError if a key is not valid for Memcached."""
    line = b" ".join(keys)
    if not _KEYS.fullmatch(line) or line.count(b" ") != len(keys) - 1:
        for key in keys:
            checked(key)


def encode_gets(keys: Sequence[bytes]) -> bytes:
    """Encode a question whose reply `read_held` reads. Keys without a value have no reply."""
    _check_all(keys)
    return b"mg %b k c f t v q\r\nmn\r\n" % b" k c f t v q\r\nmg ".join(keys)


def encode_puts(puts: Sequence[Put]) -> bytes:
    """Encode each as an `add` or a `cas`, or as a "Meta Delete" for a time to live of 0."""
    _check_all([put.key for put in puts])
    return b"".join(map(_encode_put, puts))


def _encode_put(put: Put) -> bytes:
    key, value, ttl, token, _ = put
    if ttl == 0 and token is not None:
        return b"md %b C%d\r\n" % (key, token)
    if ttl is not None and not 1 <= ttl <= MAX_TTL:
        raise _invalid_ttl(ttl)
    if token is None:
        head = b"add %b 0 %d %d" % (key, ttl or 0, len(value))
    else:
        head = b"cas %b 0 %d %d %d" % (key, ttl or 0, len(value), token)
    question = encode_gets([key]) if put.wants_token else b""
    return b"%b\r\n%b\r\n%b" % (head, value, question)


def encode_increment(key: bytes, amount: int, ttl: int) -> bytes:
    """Encode an addition to a number, which begins as `amount` if it is missing."""
    return b"ma %b N%d J%d D%d v\r\n" % (checked(key, ttl), ttl, amount, amount)


async def read_number(reader: MemcachedConnection) -> int:
    """Read the reply to an addition."""
    status, *words = (await reader.readline()).split()
    if status != b"VA":
        raise unexpected(status)
    return int((await reader.readexactly(int(words[0]) + 2))[:-2])


async def read_puts(reader: MemcachedConnection, puts: Sequence[Put]) -> list[int | None]:
    """Read the replies to puts: for each 1 if it was stored, 0 if not, None if it was refused.

    Instead of 1, a put that wants its token returns that, or 0 if another client was faster.
    """
    if not any(put.wants_token for put in puts):
        lines = await reader.read_lines(len(puts))
        results = [*map(_RESULTS.get, lines)]
        return [*map(_decode_put, lines)] if None in results else results
    return [await _read_put(reader, put) for put in puts]


async def _read_put(reader: MemcachedConnection, put: Put) -> int | None:
    (line,) = await reader.read_lines(1)
    stored = _decode_put(line)
    if put.wants_token and put.ttl != 0:
        held = (await read_held(reader, [put.key])).get(put.key)
        if stored:
            # An equal value that another client stored since then is as good: what touches it from
            # here on makes the token invalid.
            stored = held.token if held and held.value == put.value else 0
    return stored


def _decode_put(line: bytes) -> int | None:
    if line in _REFUSALS:
        return None
    stored = _RESULTS.get(line)
    if stored is None:
        raise unexpected(line)
    return stored


async def read_held(reader: MemcachedConnection, keys: Sequence[bytes]) -> dict[bytes, Held]:
    """Read the reply to `encode_gets` of these distinct keys. Raises on any other reply."""
    found: dict[bytes, Held] = {}
    items = await reader.read_items(_HELD, _NO_MORE, most=len(keys))
    for head, value in items:
        key, token, flags, left = head.group("key", "token", "flags", "left")
        # Values of this program have no client flags: one that has is another program's.
        ours = value if flags == b"0" else b""
        found[key] = Held(ours, int(token), None if left == b"-1" else int(left))
    if len(found) < len(items) or not found.keys() <= {*keys}:
        raise ConnectionError("answered another question")
    return found
