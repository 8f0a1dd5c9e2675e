"""A head that equals the one before has the meaning that it has alone."""

import random

from tests.support.processor_time import costs_at_most
from tornado_members.http1.limits import Limits
from tornado_members.http1.refusals import Refused
from tornado_members.http1.request_head import HeadParser

LINES = [
    *("GET /a HTTP/1.1", "GET /b HTTP/1.1", "GET /a HTTP/1.0", "GET //x HTTP/1.1"),
    *("GET http://h.example/a HTTP/1.1", "GET https://h.example HTTP/1.1", "GET /\xff HTTP/1.1"),
    *("HEAD /a HTTP/1.1", "POST /a HTTP/1.1", "get /a HTTP/1.1", "OPTIONS * HTTP/1.1"),
    *("CONNECT a:1 HTTP/1.1", "GET /a b HTTP/1.1", "GET /a HTTP/1.2"),
]
FIELDS = [
    *("Host: a", "host: a", "Host: b", "X: 1", "X: 2", "Authorization: Bearer a"),
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade", "Upgrade: h2c"),
    *("Expect: 100-continue", "Content-Length: 0", "Content-Length: 5"),
    "Transfer-Encoding: chunked",
]


def meaning(parser: HeadParser, data: bytes) -> tuple[object, ...]:
    """Return the interpretation of a head."""
    try:
        head = parser.parse(data)
    except Refused as refused:
        return refused.status, refused.reason
    framing = head.length, head.chunked, head.keep_alive, head.expects_continue
    return head.start_line, [*head.headers.get_all()], *framing


def test_host_in_a_target_is_for_its_own_request() -> None:
    parser = HeadParser(Limits())
    fields = b"Host: a.example\r\n\r\n"
    first = parser.parse(b"GET http://b.example/ HTTP/1.1\r\n" + fields)
    second = parser.parse(b"GET / HTTP/1.1\r\n" + fields)
    assert (first.headers["Host"], second.headers["Host"]) == ("b.example", "a.example")


def test_head_means_the_same_after_any_other() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        parser = HeadParser(Limits())
        some = [["Host: a", *rng.sample(FIELDS, rng.randint(0, 3))] for _ in range(2)]
        for _ in range(5):
            lines = [rng.choice(LINES[:8]), *rng.choice(some), "\r\n"]
            if rng.random() < 0.2:
                lines[0] = rng.choice(LINES)
            data = "\r\n".join(lines).encode("latin-1")
            found = meaning(parser, data)
            assert found == meaning(HeadParser(Limits()), data), data
            if len(found) == 2 or not found[-2]:
                break  # the connection ends here


def test_headers_are_counted_before_they_are_parsed() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n"
    allowed, refused = (head + b"A:\r\n" * count + b"\r\n" for count in (99, 4000))
    assert meaning(HeadParser(Limits()), allowed)[0] == ("GET", "/", "HTTP/1.1")
    assert meaning(HeadParser(Limits()), refused)[0] == 431
    assert costs_at_most(
        1,
        lambda: meaning(HeadParser(Limits()), refused),
        lambda: meaning(HeadParser(Limits()), allowed),
    )
