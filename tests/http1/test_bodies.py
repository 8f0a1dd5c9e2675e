"""Chunked bodies: their cost, their end, and a comparison with llhttp."""

import random
from contextlib import suppress

import httptools
import pytest

from tests.support.processor_time import costs_at_most
from tornado_members.http1.bodies import ChunkedBody
from tornado_members.http1.limits import Limits
from tornado_members.http1.refusals import BodyOverLimit, Refused

LIMITS = Limits()
MIB = 1024 * 1024


def chunked(content: bytes, size: int) -> bytes:
    chunks = [content[i : i + size] for i in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def decoded(data: bytes, *cuts: int, limit: int = 16 * MIB) -> tuple[bytes, bytes | None]:
    """Return the content, and the bytes after it, or None without an end. Raises Refused."""
    body = ChunkedBody(LIMITS, limit)
    content, unread = b"", b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        unread += data[start:end]
        before = None
        while unread is not before and not body.complete:
            before = unread
            piece, unread = body.take(unread)
            content += piece
    return content, unread if body.complete else None


def plain(size: int, per_chunk: int) -> bytes:
    return chunked(b"x" * size, per_chunk)


@pytest.mark.parametrize("content", [b"\r\n", b"\r\n\r\n", b"\n", b"0\r\n\r\n"])
def test_body_costs_the_same_whatever_its_content(content: bytes) -> None:
    data, control = chunked(content * (MIB // len(content)), 65536), plain(MIB, 65536)
    assert costs_at_most(20, lambda: decoded(data), lambda: decoded(control), slack=0.01)


@pytest.mark.parametrize(
    "data",
    [
        b"5;" + b"a;" * 8000 + b"\r\n",
        b"5" + b';a="\\"' * 2000 + b"\r\n",
        b"0\r\n" + b"A:\r\n" * 4000,
        b"0\r\n" + b"A" * 16000,
    ],
)
def test_framing_costs_no_more_than_content_of_its_size(data: bytes) -> None:
    def decode() -> None:
        with suppress(Refused):
            decoded(data)

    control = plain(16384, 4096)
    assert costs_at_most(40, decode, lambda: decoded(control), slack=0.01)


def test_one_call_decodes_a_bounded_number_of_chunks() -> None:
    body = ChunkedBody(LIMITS, MIB)
    data = chunked(b"x" * 10_000, 1)
    piece, _ = body.take(data)
    assert len(piece) <= 256
    assert decoded(data) == (b"x" * 10_000, b"")


def test_chunk_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(BodyOverLimit):
        decoded(b"5\r\nhello\r\nfffff\r\n", limit=1000)


@pytest.mark.parametrize("begin", [b"5;", b'5;a="', b"0\r\nA:"])
def test_header_of_a_chunk_is_limited_after_any_number_of_chunks(begin: bytes) -> None:
    """An incomplete header is held in memory, and the limits of content do not count it."""
    chunks = b"1\r\nx\r\n" * 10_000
    longest = LIMITS.head_bytes - len(begin) - 2
    assert decoded(chunks + begin + b"a" * longest) == (b"x" * 10_000, None)
    for end in (b"", b'"' * begin.count(b'"') + b"\r\n\r\n"):
        with pytest.raises(Refused, match="too much around"):
            decoded(chunks + begin + b"a" * LIMITS.head_bytes + end)


class Reference:
    """The same body, as llhttp decodes it."""

    def __init__(self) -> None:
        self.content = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.content += data

    def on_message_complete(self) -> None:
        self.complete = True


def reference(data: bytes) -> Reference | None:
    """Return None if llhttp refuses the body."""
    found = Reference()
    parser = httptools.HttpRequestParser(found)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        for byte in data:
            if found.complete:
                break
            parser.feed_data(bytes([byte]))
    except httptools.HttpParserError:
        return None
    return found


PARTS = [
    *(
        b"5\r\nhello\r\n",
        b"1\r\n\r\r\n",
        b"4\r\n\r\n\r\n\r\n",
        b"A\r\n0123456789\r\n",
        b"003\r\nabc\r\n",
    ),
    *(b"3;a\r\nabc\r\n", b'3;a=b;c="d;\\" e"\r\nabc\r\n', b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n"),
    b"00;x\r\nB:\r\nC: d\r\n\r\n",
]
SPECIAL = [b"\r", b"\n", b"\r\n", b"\0", b" ", b";", b"=", b'"', b":", b"g", b"-", b"f", b"\xff"]


def test_body_decoder_accepts_only_what_llhttp_accepts() -> None:
    """Cut at random positions. Where the two differ, http1 is stricter."""
    chance = random.Random(5)
    agreed = {"taken": 0, "refused": 0, "unfinished": 0}
    for _ in range(4000):
        data = b"".join(chance.choices(PARTS, k=chance.randint(1, 4))) + b"0\r\n\r\nGET /"
        for _ in range(chance.choice([0, 0, 1, 1, 2])):
            at = chance.randrange(len(data))
            data = data[:at] + chance.choice(SPECIAL) + data[at + chance.choice([0, 1, 1]) :]
        cuts = sorted(chance.sample(range(len(data)), chance.choice([0, 1, 3])))
        theirs = reference(data)
        try:
            content, rest = decoded(data, *cuts)
        except Refused:
            agreed["refused"] += theirs is None
            continue
        assert theirs is not None or rest is None, data  # llhttp may refuse sooner
        if theirs is not None:
            assert (content, rest is not None) == (theirs.content, theirs.complete), data
            agreed["unfinished" if rest is None else "taken"] += 1
    assert min(agreed["taken"], agreed["refused"]) > 500, agreed
