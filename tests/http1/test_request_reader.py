"""RequestReader: bytes in, events out, without a connection."""

import random

import pytest

from tornado_members.http1.events import Data, EndOfMessage
from tornado_members.http1.heads import RequestHead
from tornado_members.http1.limits import Limits
from tornado_members.http1.refusals import BodyOverLimit, Refused
from tornado_members.http1.request_reader import RequestReader

GET = b"GET /get HTTP/1.1\r\nHost: x\r\n\r\n"
SIZED = b"PUT /sized HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\n\r\n\r\nx\r\n6;a=b\r\n world\r\n0\r\nA: b\r\n\r\n"
)
LIMITS = Limits(piece_bytes=4)


def requests(reader: RequestReader, pieces: list[bytes]) -> list[tuple[str, bytes]]:
    """Return the target and the content of each request."""
    found: list[tuple[str, bytes]] = []
    target, content = "", b""
    for piece in pieces:
        event = reader.receive(piece)
        while event is not None:
            is_complete = isinstance(event, EndOfMessage)
            if isinstance(event, RequestHead):
                target, content = event.start_line.path, b""
                is_complete = not event.has_body
                assert reader.receive() is None  # it waits for a decision
                if event.has_body:
                    reader.accept_body(1000)
            elif isinstance(event, Data):
                assert 0 < len(event.content) <= LIMITS.piece_bytes
                content += event.content
            if is_complete:
                found.append((target, content))
                assert reader.receive() is None  # it waits for next_request()
                reader.next_request()
            event = reader.receive()
    return found


def test_receive_returns_the_same_events_however_the_bytes_are_cut() -> None:
    data = GET + SIZED + b"\r\n" + CHUNKED + GET
    expected = [
        *(("/get", b""), ("/sized", b"hello")),
        *(("/chunked", b"\r\n\r\nx world"), ("/get", b"")),
    ]
    assert requests(RequestReader(LIMITS), [data]) == expected
    assert requests(RequestReader(LIMITS), [bytes([byte]) for byte in data]) == expected
    chance = random.Random(3)
    for _ in range(200):
        cuts = sorted(chance.sample(range(len(data)), 3))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert requests(RequestReader(LIMITS), pieces) == expected


def test_receive_refuses_what_is_malformed_as_soon_as_it_is_known() -> None:
    for data in (
        b"GET / HTTP/1.1\nHost",
        b"nonsense\r\n\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\0",
    ):
        with pytest.raises(Refused):
            RequestReader(LIMITS).receive(data)


@pytest.mark.parametrize("data", [SIZED, CHUNKED])
def test_accept_body_sets_the_limit(data: bytes) -> None:
    reader = RequestReader(LIMITS)
    reader.receive(data)

    def read() -> None:
        reader.accept_body(4)
        reader.receive()

    with pytest.raises(BodyOverLimit):  # at the head, or at the chunk that exceeds it
        read()


def test_discard_body_skips_to_the_next_request() -> None:
    reader = RequestReader(LIMITS)
    reader.receive(SIZED[:-2])
    assert reader.unread_body == 5
    reader.discard_body()
    assert reader.receive() is None
    assert isinstance(reader.receive(b"lo" + GET), EndOfMessage)
    reader.next_request()
    assert isinstance(reader.receive(), RequestHead)


def test_unread_body_is_unknown_for_chunks() -> None:
    reader = RequestReader(LIMITS)
    reader.receive(CHUNKED)
    assert reader.unread_body is None
    reader.accept_body(1000)
    while not isinstance(reader.receive(), EndOfMessage):
        pass
    assert reader.unread_body == 0
