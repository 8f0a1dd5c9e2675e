"""The framing of responses, and handlers that get it wrong."""

from typing import Any

import pytest
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from tests.http1.conftest import Run
from tests.support.http1 import (
    GET,
    LAST,
    application,
    connected,
    exchange,
    parse_responses,
    serving,
)
from tests.support.waiting import until
from tornado_members.http1.limits import Limits


class Various(RequestHandler):
    """Responds as its query demands."""

    async def get(self) -> None:
        for name, value in self.request.query_arguments.items():
            text = value[0].decode()
            if name == "status":
                self.set_status(int(text))
            elif name == "length":
                self.set_header("Content-Length", text)
            elif name == "connection":
                self.set_header("Connection", text)
            elif name == "flush":
                self.write(text)
                await self.flush()
            elif name == "write":
                self.write(text)

    head = get

    def log_exception(self, *_: Any) -> None:
        """Log nothing: the exception is intended."""

    def compute_etag(self) -> None:
        """Set no ETag."""


def get(query: str, *, method: str = "GET", version: str = "1.1", headers: str = "") -> bytes:
    return f"{method} /?{query} HTTP/{version}\r\nHost: x\r\n{headers}\r\n".encode()


@pytest.mark.parametrize(
    ("request_", "status", "body", "headers"),
    [
        (get("write=hello"), 200, b"hello", {"content-length": "5"}),
        (get("flush=hel&write=lo"), 200, b"hello", {"transfer-encoding": "chunked"}),
        (get("flush="), 200, b"", {"transfer-encoding": "chunked"}),
        (get("length=5&flush=hel&write=lo"), 200, b"hello", {"content-length": "5"}),
        (get("status=204"), 204, b"", {}),
        (get("status=304"), 304, b"", {}),
        (get("status=404&write=no"), 404, b"no", {"content-length": "2"}),
    ],
)
def test_response_has_a_length_or_chunks(
    run: Run, request_: bytes, status: int, body: bytes, headers: dict[str, str]
) -> None:
    async def main() -> bytes:
        async with serving(application(Various)) as (_, address):
            return await exchange(address, request_ + LAST)

    first, second = parse_responses(run(main()))
    assert (first.status, first.body, first.whole) == (status, body, True)
    assert "connection" not in first.headers
    framing = {"content-length", "transfer-encoding"} & first.headers.keys()
    assert {name: first.headers[name] for name in framing} == headers
    assert (second.status, second.body, second.headers["connection"]) == (200, b"", "close")


@pytest.mark.parametrize("query", ["write=hello", "flush=hello", "status=304", "length=7"])
def test_head_response_has_only_headers(run: Run, query: str) -> None:
    async def main() -> bytes:
        async with serving(application(Various)) as (_, address):
            last = get("", method="HEAD", headers="Connection: close\r\n")
            return await exchange(address, get(query, method="HEAD") + last)

    assert len(parse_responses(run(main()), head=True)) == 2


@pytest.mark.parametrize(
    ("version", "sent", "query", "responded"),
    [
        ("1.1", "", "write=a", None),
        ("1.1", "keep-alive", "write=a", None),
        ("1.1", "close", "write=a", "close"),
        ("1.1", "Foo, CLOSE", "write=a", "close"),
        ("1.1", "", "write=a&connection=close", "close"),
        ("1.0", "", "write=a", "none"),
        ("1.0", "keep-alive", "write=a", "Keep-Alive"),
        ("1.0", "foo, Keep-Alive", "status=304", "Keep-Alive"),
        ("1.0", "keep-alive", "flush=a", "none"),  # the end of the connection is its end
        ("1.0", "close, keep-alive", "write=a", "none"),
    ],
)
def test_connection_is_kept_or_closed(
    run: Run, version: str, sent: str, query: str, responded: str | None
) -> None:
    """`none`: the connection is closed without a Connection header."""

    async def main() -> bytes:
        async with serving(application(Various)) as (_, address):
            headers = f"Connection: {sent}\r\n" if sent else ""
            return await exchange(address, get(query, version=version, headers=headers) + LAST)

    first, *others = parse_responses(run(main()))
    assert first.whole
    assert first.headers.get("connection") == (None if responded == "none" else responded)
    assert len(others) == (responded in (None, "Keep-Alive"))


@pytest.mark.parametrize("query", ["length=2&write=hello", "length=9&write=hello", "length=x"])
def test_response_of_a_wrong_length_is_cut_off(run: Run, query: str) -> None:
    async def main() -> bytes:
        async with serving(application(Various)) as (_, address):
            return await exchange(address, get(query) + GET)

    assert not [
        response
        for response in parse_responses(run(main()))
        if response.whole and response.status == 200
    ]


class Delegate(HTTPServerConnectionDelegate, HTTPMessageDelegate):
    """Responds by itself, without a RequestHandler."""

    connection: HTTPConnection

    def __init__(self, *parts: tuple[str, str] | bytes, status: int = 200) -> None:
        self.parts = parts
        self.status = status
        self.errors: list[Exception] = []

    def start_request(self, _: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        self.connection = request_conn
        return self

    def finish(self) -> None:
        headers = HTTPHeaders()
        for part in self.parts:
            if isinstance(part, tuple):
                headers[part[0]] = part[1]
        try:
            self.connection.write_headers(ResponseStartLine("", self.status, "A reason"), headers)
            for part in self.parts:
                if isinstance(part, bytes):
                    self.connection.write(part)
            self.connection.finish()
        except Exception as error:
            self.errors.append(error)
            raise


@pytest.mark.parametrize(
    "header",
    [("A", "b\r\nC: d"), ("A", "b\nC: d"), ("A", "b\r"), ("A\r\nB", "c"), ("A", "\r\n\r\nbody")],
)
def test_response_header_cannot_inject_lines(header: tuple[str, str]) -> None:
    async def main() -> bytes:
        async with serving(delegate) as (_, address):
            return await exchange(address, GET)

    delegate = Delegate(header)
    assert Run.on_asyncio(main()) == b""
    assert isinstance(delegate.errors[0], ValueError)


@pytest.mark.parametrize("status", [204, 304])
def test_response_without_a_body_sends_none(status: int) -> None:
    async def main() -> bytes:
        async with serving(delegate) as (_, address):
            return await exchange(address, GET)

    delegate = Delegate(b"body", status=status)
    assert b"body" not in Run.on_asyncio(main())
    assert len(delegate.errors) == 1


def test_response_may_precede_the_end_of_its_request(run: Run) -> None:
    """Even within headers_received. A body that is not read is not parsed as a request."""

    class Hasty(Delegate):
        def headers_received(self, *_: Any) -> None:
            super().finish()

        def finish(self) -> None:
            raise AssertionError("the response was sent before the body was read")

    async def main() -> None:
        async with serving(Hasty(b"body")) as (_, address):
            assert len(parse_responses(await exchange(address, GET + GET + LAST))) == 3
            hidden = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GET) + GET
            assert len(parse_responses(await exchange(address, hidden + LAST))) == 2
        async with serving(Hasty(b"body"), Limits(discard_bytes=10)) as (_, address):
            assert len(parse_responses(await exchange(address, hidden + GET))) == 1

    run(main())


def test_write_to_a_disconnected_client_fails(run: Run) -> None:
    class Endless(RequestHandler):
        async def get(self) -> None:
            try:
                while True:
                    self.write(b"x" * 65536)
                    await self.flush()
            except StreamClosedError as error:
                errors.append(error)

    errors: list[Exception] = []

    async def main() -> None:
        async with serving(application(Endless)) as (_, address):
            async with connected(address) as client:
                client.transport.write(GET)
                await client.until(b"xxx")
            await until(lambda: errors)

    run(main())
