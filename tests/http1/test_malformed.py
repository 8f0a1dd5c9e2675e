"""Malformed requests and their status; and valid ones that look malformed."""

import asyncio

import pytest

from tests.http1.conftest import Run
from tests.support.http1 import (
    Address,
    Response,
    connected,
    echo,
    exchange,
    parse_responses,
    serving,
)
from tests.support.waiting import until
from tornado_members.http1.limits import Limits

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# An attacker who smuggles requests hopes that this counts as a separate request.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED: dict[str, tuple[bytes, int]] = {
    # Request lines
    "nonsense": (b"nonsense\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "no target": (b"GET HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "two spaces before the version": (b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a space behind the version": (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    "a space in front": (b" GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a tab": (b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a control character in the target": (b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "DEL in the target": (b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no method": (b"/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a method that is not a token": (b"GE(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
    "HTTP/0.9 by name": (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
    "HTTP/11": (b"GET / HTTP/11\r\nHost: x\r\n\r\n", 400),
    "http/1.1": (b"GET / http/1.1\r\nHost: x\r\n\r\n", 400),
    "RTSP": (b"GET / RTSP/1.0\r\nHost: x\r\n\r\n", 400),
    "a long line": (b"GET /" + b"x" * 8200 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "a line without end": (b"GET /" + b"x" * 17_000, 414),
    # Targets (RFC 9112 §3.2)
    "no slash": (b"GET index HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an authority to GET": (b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "CONNECT without a port": (b"CONNECT x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "CONNECT to a path": (b"CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a star to GET": (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "user information": (b"GET http://u:p@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "another scheme": (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "no authority": (b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    # Ends of lines
    "bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "one bare LF": (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    "bare LF at the end": (b"GET / HTTP/1.1\r\nHost: x\r\n\n", 400),
    "bare LF in front": (b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "two empty lines in front": (b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a flood of empty lines": (b"\r\n" * 50_000, 400),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400),
    "bare CR in the request line": (b"GET /\r HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400),
    # Headers
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "obs-fold with a tab": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tc\r\n\r\n", 400),
    "a folded first header": (b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: x\r\nAb\r\n\r\n", 400),
    "no name": (b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
    "a space in the name": (b"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", 400),
    "a name that is not a token": (b"GET / HTTP/1.1\r\nHost: x\r\nA(b: c\r\n\r\n", 400),
    "a name in Latin-1": (b"GET / HTTP/1.1\r\nHost: x\r\n\xe9: c\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400),
    "a control character in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x0bc\r\n\r\n", 400),
    "DEL in a value": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x7fc\r\n\r\n", 400),
    "too many": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 431),
    "too many, to be upgraded": (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\n"
        + b"A: b\r\n" * 100
        + b"\r\n",
        431,
    ),
    "too large": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 16_400 + b"\r\n\r\n", 431),
    "without end": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 17_000, 431),
    # Host
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no Host, with an absolute target": (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "two Hosts in 1.0": (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    "two Hosts in one": (b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n", 400),
    "a Host with a space": (b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n", 400),
    "a Host with a path": (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "a Host with a user": (b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n", 400),
    "a Host in quotes": (b'GET / HTTP/1.1\r\nHost: "x"\r\n\r\n', 400),
    # Framing
    "CL.TE": (POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    "TE.CL": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + HIDDEN,
        400,
    ),
    "CL.0 in a GET": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 35\r\n\r\n" + HIDDEN, 400),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    "two equal lengths": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list of lengths": (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "a length with a sign": (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    "a negative length": (POST + b"Content-Length: -5\r\n\r\nhello", 400),
    "a length in hex": (POST + b"Content-Length: 0x5\r\n\r\nhello", 400),
    "a length with an underscore": (POST + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
    "a length in two words": (POST + b"Content-Length: 1 0\r\n\r\n0123456789", 400),
    "a length in other digits": (POST + "Content-Length: \u0665\r\n\r\nhello".encode(), 400),
    "no length": (POST + b"Content-Length:\r\n\r\n", 400),
    "a length beyond 64 bits": (POST + b"Content-Length: 18446744073709551617\r\n\r\nh", 400),
    "a length of many zeros": (POST + b"Content-Length: " + b"0" * 30 + b"5\r\n\r\nhello", 400),
    "a length over the limit": (POST + b"Content-Length: 2000\r\n\r\n", 413),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in two headers": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunked, identity": (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked with VT": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in quotes": (POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 400),
    "TE with a space": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "TE folded": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "empty TE": (POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    "TE in 1.0": (
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    # Chunks
    "no size": (CHUNKED + b"\r\n0\r\n\r\n", 400),
    "a size that is none": (CHUNKED + b"xyz\r\n0\r\n\r\n", 400),
    "a size with 0x": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", 400),
    "a size with a sign": (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", 400),
    "a negative size": (CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", 400),
    "a size with an underscore": (CHUNKED + b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", 400),
    "a space in front of a size": (CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", 400),
    "a space behind a size": (CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", 400),
    "a size beyond 64 bits": (CHUNKED + b"1ffffffffffffffff\r\nhello\r\n0\r\n\r\n", 400),
    "bare LF behind a size": (CHUNKED + b"5\nhello\r\n0\r\n\r\n", 400),
    "bare CR behind a size": (CHUNKED + b"5\rhello\r\n0\r\n\r\n", 400),
    "bare LF behind a chunk": (CHUNKED + b"5\r\nhello\n0\r\n\r\n", 400),
    "a chunk that is too long": (CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "a chunk that is too short": (CHUNKED + b"5\r\nhell\r\n0\r\n\r\n", 400),
    "bare LF in an extension": (CHUNKED + b"5;a\nhello\r\n0\r\n\r\n", 400),
    "CR LF in a quoted extension": (CHUNKED + b'5;a="\r\nhello\r\n0\r\n\r\n', 400),
    "an empty extension": (CHUNKED + b"5;\r\nhello\r\n0\r\n\r\n", 400),
    "an extension with NUL": (CHUNKED + b"5;a\x00\r\nhello\r\n0\r\n\r\n", 400),
    "endless extensions": (CHUNKED + b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", 400),
    "endless trailers": (CHUNKED + b"0\r\n" + b"A: b\r\n" * 4000 + b"\r\n", 400),
    "a malformed trailer": (CHUNKED + b"0\r\nA b\r\n\r\n", 400),
    "a length as a trailer": (CHUNKED + b"0\r\nContent-Length: 35\r\n\r\n" + HIDDEN, 400),
    "bare LFs at the end": (CHUNKED + b"0\n\n", 400),
    "chunks over the limit": (CHUNKED + b"400\r\n" + b"x" * 1024 + b"\r\n1\r\nx\r\n0\r\n\r\n", 413),
}
ALLOWED: dict[str, tuple[bytes, dict[str, object]]] = {
    "an empty line in front": (b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", {"uri": "/"}),
    "an unknown method": (b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", {"method": "FOO"}),
    "bytes beyond ASCII in the target": (
        b"GET /\xc3\xa9?\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
        {"uri": "/\u00c3\u00a9?\u00e9"},
    ),
    "an absolute target": (
        b"GET http://other:81/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
        {"uri": "/a?b", "host": "other:81"},
    ),
    "an absolute target without a path": (
        b"GET HTTPS://other HTTP/1.1\r\nHost: x\r\n\r\n",
        {"uri": "/", "host": "other"},
    ),
    "a query alone": (b"GET http://y?b HTTP/1.1\r\nHost: x\r\n\r\n", {"uri": "/?b"}),
    "OPTIONS of all": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", {"uri": "*"}),
    "OPTIONS of an authority": (b"OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n", {"uri": "*"}),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", {"host": ""}),
    "IPv6": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", {"host": "[::1]:80"}),
    "HTTP/1.0 without a Host": (b"GET / HTTP/1.0\r\n\r\n", {"version": "HTTP/1.0"}),
    "white space round a value": (
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \t b \t\r\nC:\r\n\r\n",
        {"headers": [["A", "b"], ["C", ""], ["Host", "x"]]},
    ),
    "a value in Latin-1": (
        b"GET / HTTP/1.1\r\nHost: x\r\nA: \xe9\r\n\r\n",
        {"headers": [["A", "é"], ["Host", "x"]]},
    ),
    "a header twice": (
        b"GET / HTTP/1.1\r\nA: b\r\nHost: x\r\na: c\r\n\r\n",
        {"headers": [["A", "b"], ["A", "c"], ["Host", "x"]]},
    ),
    "an upgrade, which is ignored": (
        POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello",
        {"body": "hello"},
    ),
    "an upgrade in chunks": (
        POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\n\r\n",
        {"body": "hello"},
    ),
    "extensions": (CHUNKED + b'5;a;b=c;d="e;\\"f"\r\nhello\r\n0;g\r\n\r\n', {"body": "hello"}),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", {"body": "hello"}),
    "zeros": (CHUNKED + b"0005\r\nhello\r\n000\r\n\r\n", {"body": "hello"}),
    "an empty line in a chunk": (CHUNKED + b"6\r\na\r\n\r\nb\r\n0\r\n\r\n", {"body": "a\r\n\r\nb"}),
    "a body of a GET": (
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        {"body": "hello"},
    ),
}
LIMITS = Limits(body_bytes=1024)


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_requests_are_refused(name: str) -> None:
    """Exactly one refusal follows, whether the bytes arrive at once or in pieces."""
    data, status = REFUSED[name]

    async def refused(address: Address, *pieces: bytes) -> None:
        response, *others = parse_responses(await exchange(address, *pieces))
        assert response.status == status
        assert response.headers["connection"] == "close"
        assert response.whole
        assert response.body
        assert others == []

    async def main() -> None:
        async with serving(echo(), LIMITS) as (_, address):
            await refused(address, data + HIDDEN)
            if len(data) < 1000:
                middle = len(data) // 2
                await refused(address, data[:middle], data[middle:], HIDDEN)

    asyncio.run(main())


@pytest.mark.parametrize("name", ALLOWED)
def test_unusual_requests_are_served(name: str) -> None:
    """Also byte by byte; the following bytes are the next request."""
    data, understood = ALLOWED[name]

    async def main() -> None:
        async with serving(echo(), LIMITS) as (_, address):
            follower = b"GET /follower HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            for pieces in ([data + follower], [bytes([byte]) for byte in data + follower]):
                first, *others = parse_responses(await exchange(address, *pieces))
                assert first.status == 200
                assert {key: first.json()[key] for key in understood} == understood
                if first.json()["version"] == "HTTP/1.1":
                    assert [response.json()["uri"] for response in others] == ["/follower"]

    asyncio.run(main())


def test_connect_is_left_to_the_application_and_closes_the_connection() -> None:
    async def main() -> list[Response]:
        async with serving(echo()) as (_, address):
            request = b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"
            return parse_responses(await exchange(address, request + HIDDEN))

    (response,) = asyncio.run(main())
    assert response.json()["uri"] == "x:443"
    assert response.headers["connection"] == "close"


def test_refusal_of_head_has_no_body() -> None:
    async def main() -> bytes:
        async with serving(echo()) as (_, address):
            return await exchange(address, b"HEAD / HTTP/1.1\r\n\r\n")

    received = asyncio.run(main())
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.endswith(b"\r\n\r\n")


def test_malformed_head_is_refused_before_it_is_complete(run: Run) -> None:
    """Otherwise, a 408 would follow ten seconds later."""

    async def main() -> None:
        async with serving(echo()) as (_, address):
            for data in (b"GET / HTTP/1.1\r\nHost\x00", b"GET / HTTP/1.1\nHost: x", b"GET / http"):
                async with connected(address) as client:
                    for byte in data:
                        client.transport.write(bytes([byte]))
                        await asyncio.sleep(0)
                    assert (await client.until_closed()).startswith(b"HTTP/1.1 400 ")

    run(main())


def test_refusal_reaches_a_client_that_keeps_sending(run: Run) -> None:
    """Closing at once would reset the connection, and the response would be lost."""

    async def main() -> None:
        async with serving(echo()) as (server, address), connected(address) as client:
            client.transport.write(b"nonsense\r\n\r\n")
            await client.until(b"Connection: close")
            for _ in range(100):
                client.transport.write(b"x" * 65536)
                await asyncio.sleep(0)
            assert (await client.until_closed()).startswith(b"HTTP/1.1 400 ")
            assert not client.reset
            client.transport.close()
            await until(lambda: not server.connections)

    run(main())
