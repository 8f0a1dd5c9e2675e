"""The Memcached commands of the cache: how they are encoded, and how their replies are parsed.

The protocol is described in Memcached's doc/protocol.txt. Only the meta commands return the time
that a value has left; they need Memcached 1.6. Values are stored by the classic commands: a "Meta
Set" that the server refuses, since the value is too large or memory is short, removes what is under
the key, such as the tombstone of a writer. `add` and `cas` leave it.

Keys are 1 to 250 printable ASCII bytes, times to live are seconds from 1 to MAX_TTL. Anything else
is a ValueError. A reply that is malformed, or that answers another request, is a ConnectionError.
"""

import asyncio
import re
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final, Generic, NamedTuple, Self, TypeVar

T = TypeVar("T")

LINE_END: Final = b"\r\n"
MAX_TTL = 30 * 86400  # seconds; the protocol takes anything above for a date
MAX_ITEM = 1024 * 1024  # bytes; Memcached's own default
MAX_VALUE = MAX_ITEM - 1024  # bytes; an item also has its key and a head
_MOST_SHARED = 16  # keys of one caller; the others would have to wait for more of them
_LONGEST_LINE = 2048  # bytes; a line of a reply holds a key and three numbers
_KEY = re.compile(rb"[!-~]{1,250}")
_KEYS = re.compile(rb"[!-~]{1,250}+(?: [!-~]{1,250}+)*+")
# The reply to "Meta Get" for a key that has a value.
_HELD = re.compile(
    rb"VA (?P<size>[0-9]{1,8}) k(?P<key>[!-~]{1,250}) c(?P<token>[0-9]{1,20})"
    rb" f(?P<flags>[0-9]{1,10}) t(?P<left>-1|[0-9]{1,10})\r\n"
)
_NO_MORE_HELD = b"MN"  # the reply to "Meta No-Op", after those to quiet commands
# The server is well: the value is above its -I, or it evicts nothing (-M) and is full. The end of
# the second line depends on the size of the value ("storing object", "during read").
REFUSAL: Final = re.compile(rb"SERVER_ERROR (?:object too large for cache|[Oo]ut of memory.*)")
# The classic and the meta commands' words for "stored or removed", and for "not".
_RESULTS: Final = {
    **dict.fromkeys((b"STORED", b"DELETED", b"HD"), 1),
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
    """A value to store if nothing is there; with a token of `Gets`, if nothing touched it.

    `ttl` is seconds; None is for ever, and 0, which needs a token, removes what is there.
    `wants_token` asks for the token of the stored value, in the same request.
    """

    key: bytes
    value: bytes
    ttl: int | None
    token: int | None = None
    wants_token: bool = False


class Command(Generic[T]):
    """A request, and the reply to it, which is parsed as it arrives.

    Callers of one turn of the event loop may share a command that has not been sent yet.
    """

    request: bytes
    result: T  # once the reply is complete
    shares: Sequence[T] = ()  # of the result, if each caller receives a part of it
    echo = b""  # what follows the reply (echoes.py)
    sent_at = float("-inf")  # by clock()
    is_complete = False  # True if the whole reply was parsed
    shared_as: object = None  # commands with an equal value share a request; None: with no other

    def __init__(self) -> None:
        self.futures = [asyncio.get_running_loop().create_future()]  # of the callers

    def read(self, data: bytes, at: int) -> int:
        """Parse the part of the reply that begins at this position; return where it ends.

        At the end of the reply, sets `is_complete`. Otherwise, the next part begins with the bytes
        that were not parsed. Raises ConnectionError for anything but a reply to this request.
        """
        raise NotImplementedError

    def encode(self) -> bytes:
        """Return the request of a command that others have joined."""
        return self.request

    def join(self, other: Self) -> None:
        """Add the request of a command with an equal `shared_as`, which then is not sent."""
        raise NotImplementedError

    def fail(self, error: Exception) -> int:
        """Raise an exception in the callers; return their number."""
        waiting = [future for future in self.futures if not future.done()]
        for future in waiting:
            future.set_exception(error)
        return len(waiting)


class Items(Command[dict[bytes, T]]):
    """A command whose reply consists of items and a last line. Keys without a value are absent.

    The result has the keys of all callers.
    """

    form: tuple[bytes, bytes, bytes]  # of the request: before, between and after the keys
    head: re.Pattern[bytes]  # of an item of the reply, with the groups `key` and `size`
    last_line: bytes  # of the reply

    def __init__(self, keys: Sequence[bytes]) -> None:
        super().__init__()
        self.keys = dict.fromkeys(keys)
        self.shared_as = type(self) if len(keys) <= _MOST_SHARED else None
        self.result = {}
        _check_all(self.keys)
        self.request = self.encode()

    def encode(self) -> bytes:
        before, between, after = self.form
        return before + between.join(self.keys) + after

    def join(self, other: Self) -> None:
        self.keys |= other.keys
        self.futures += other.futures
        self.request = b""  # it is encoded when it is sent

    def read(self, data: bytes, at: int) -> int:
        while match := self.head.match(data, at):
            start = match.end()
            end = start + _checked_size(int(match["size"]))
            if len(data) < end + 2:
                return at
            if data[end : end + 2] != LINE_END:
                raise ConnectionError("sent a value of another length than it announced")
            if match["key"] not in self.keys or match["key"] in self.result:
                raise ConnectionError("answered another question")
            self.result[match["key"]] = self.parse(match, data[start:end])
            at = end + 2
        line, at = take_line(data, at)
        if line is not None:
            if line != self.last_line:
                raise unexpected(line)
            self.is_complete = True
        return at

    def parse(self, head: re.Match[bytes], value: bytes) -> T:
        """Return the item. Values of this program have no client flags."""
        raise NotImplementedError


class Gets(Items[Held]):
    """Reads values, with the tokens that replace them and the seconds until they expire."""

    form = b"mg ", b" k c f t v q\r\nmg ", b" k c f t v q\r\nmn\r\n"
    head, last_line = _HELD, _NO_MORE_HELD

    def parse(self, head: re.Match[bytes], value: bytes) -> Held:
        token, flags, left = head.group("token", "flags", "left")
        ours = value if flags == b"0" else b""
        return Held(ours, int(token), None if left == b"-1" else int(left))


class PutMany(Command[list[int | None]]):
    """Stores or removes values.

    The result is, for each: 1 if it was stored or removed (its token if the put wants that), 0 if
    another client was faster, None if the server refuses such a value.
    """

    def __init__(self, puts: Sequence[Put]) -> None:
        super().__init__()
        _check_all([put.key for put in puts])
        self.shared_as = type(self) if len(puts) <= _MOST_SHARED else None
        self.result = []
        self._puts = puts
        self._counts = [len(puts)]  # by caller
        self._stored: int | None = None  # of the put whose token is read
        self._question: Gets | None = None  # for that token
        self.request = b"".join(map(_encode_put, puts))

    def join(self, other: Self) -> None:
        self._puts = [*self._puts, *other._puts]
        self._counts += other._counts
        self.futures += other.futures
        self.request += other.request

    def read(self, data: bytes, at: int) -> int:
        while len(self.result) < len(self._puts):
            put = self._puts[len(self.result)]
            if self._question is None:
                line, at = take_line(data, at)
                if line is None:
                    return at
                self._stored = decode_put(line)
                if not put.wants_token or put.ttl == 0:
                    self.result.append(self._stored)
                    continue
                self._question = Gets([put.key])
            at = self._question.read(data, at)
            if not self._question.is_complete:
                return at
            held = self._question.result.get(put.key)
            if self._stored:
                # An equal value that another client stored since then is as good: what touches it
                # from here on makes the token invalid.
                self._stored = held.token if held and held.value == put.value else 0
            self.result.append(self._stored)
            self._question = None
        results = iter(self.result)
        self.shares = [[*islice(results, count)] for count in self._counts]
        self.is_complete = True
        return at


def checked(key: bytes, ttl: int | None = None) -> bytes:
    """Return the key. Raises ValueError if it or the time to live is not valid for Memcached."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not a valid key")
    if ttl is not None and not 1 <= ttl <= MAX_TTL:
        raise _invalid_ttl(ttl)
    return key


def _invalid_ttl(ttl: int) -> ValueError:
    return ValueError(f"{ttl} seconds is not a valid time to live")


def _check_all(keys: Collection[bytes]) -> None:
    """Raise ValueError if a key is not valid for Memcached."""
    line = b" ".join(keys)
    if not _KEYS.fullmatch(line) or line.count(b" ") != len(keys) - 1:
        for key in keys:
            checked(key)


def _encode_put(put: Put) -> bytes:
    """Encode a put as an `add` or a `cas`, or as a "Meta Delete" for a time to live of 0."""
    key, value, ttl, token, wants_token = put
    if ttl == 0 and token is not None:
        return b"md %b C%d\r\n" % (key, token)
    if ttl is not None and not 1 <= ttl <= MAX_TTL:
        raise _invalid_ttl(ttl)
    if token is None:
        head = b"add %b 0 %d %d" % (key, ttl or 0, len(value))
    else:
        head = b"cas %b 0 %d %d %d" % (key, ttl or 0, len(value), token)
    question = Gets([key]).request if wants_token else b""
    return b"%b\r\n%b\r\n%b" % (head, value, question)


def decode_put(line: bytes) -> int | None:
    """Return the result of a put whose reply is this line."""
    stored = _RESULTS.get(line)
    if stored is None and not REFUSAL.fullmatch(line):
        raise unexpected(line)
    return stored


def take_line(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the line that begins at this position, and where it ends; None if it is incomplete."""
    end = data.find(LINE_END, at, at + _LONGEST_LINE)
    if end >= 0:
        return data[at:end], end + 2
    if len(data) - at >= _LONGEST_LINE or data.find(b"\n", at) >= 0:
        raise ConnectionError("is not a Memcached")
    return None, at


def _checked_size(size: int) -> int:
    if size > MAX_ITEM:
        raise ConnectionError(f"announced a value of {size} bytes")
    return size


def unexpected(line: bytes) -> ConnectionError:
    """Return the error of a line that is not a reply to the command."""
    if line.split()[:1] == [b"ERROR"]:
        return ConnectionError("knows no meta commands; Memcached 1.6 or later is required")
    return ConnectionError("answered another question")
