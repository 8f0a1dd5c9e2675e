"""Bodies are admitted at the head of their request, or refused before they are buffered."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tornado.web import _HandlerDelegate

from tests.support.api import Api, problem, token_of
from tests.support.cases import cases
from tests.support.wire import AnyServer, answer_before_end, bare_connection, on_both
from tornado_members.services import Services

pytestmark = pytest.mark.shared_services

LIMIT = 16 * 1024
TOKEN = f"Authorization: Bearer {token_of(3)}\r\n".encode()


def producer(size: int, piece: int = 65536) -> Callable[..., Any]:
    async def produce(write: Callable[[bytes], Any]) -> None:
        for start in range(0, size, piece):
            await write(b"x" * min(piece, size - start))

    return produce


@pytest.mark.parametrize("path", ["/members", "/members/1"])
@on_both
async def test_body_over_the_limit_is_413(api: Api, path: str) -> None:
    answer = await api("PUT", path, raw=b"x" * (LIMIT + 1))
    problem(answer, 413, "body-too-large")
    chunked = await api("PUT", path, body_producer=producer(LIMIT * 200))
    problem(chunked, 413, "body-too-large")


@on_both
async def test_body_at_the_limit_is_read(api: Api) -> None:
    body = b'{"name": "Ada", "email": "' + b"x" * (LIMIT - 28) + b'"}'
    assert len(body) == LIMIT
    problem(await api("PUT", "/members", raw=body), 422, "invalid-member")
    chunked = await api("PUT", "/members", body_producer=producer(LIMIT))
    problem(chunked, 400, "malformed-body")


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"])
@on_both
async def test_body_is_refused_where_the_operation_accepts_none(
    api: Api, http_server: AnyServer, method: bytes
) -> None:
    await api.create("Ada")
    head = method + b" /members/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + TOKEN
    bodies = [b"Content-Length: 2\r\n\r\n{}", CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"]
    for body in bodies:
        async with bare_connection(http_server) as (reader, writer):
            writer.write(head + body)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert method == b"HEAD" or b" takes no body on this path. Send none." in answer
    for body in (b"Content-Length: 0\r\n\r\n", CHUNKED + b"0\r\n\r\n"):
        async with bare_connection(http_server) as (reader, writer):
            writer.write(head + body)
            assert (await reader.read()).startswith((b"HTTP/1.1 20", b"HTTP/1.1 404"))


REFUSED: dict[bytes, tuple[int, bytes]] = {
    b"PUT /members HTTP/1.1\r\n": (401, b"token-missing"),
    b"PUT /members HTTP/1.1\r\nAuthorization: Bearer x\r\n": (401, b"token-invalid"),
    b"DELETE /members HTTP/1.1\r\n" + TOKEN: (405, b"method-not-allowed"),
    b"FOO /members HTTP/1.1\r\n" + TOKEN: (405, b"method-not-allowed"),
    b"PUT /members?x=1 HTTP/1.1\r\n" + TOKEN: (400, b"bad-parameter"),
    b"PUT /members HTTP/1.1\r\nAccept: text/html\r\n" + TOKEN: (406, b"not-acceptable"),
    b"PUT /nothing HTTP/1.1\r\n" + TOKEN: (404, b"not-found"),
    b"OPTIONS /members HTTP/1.1\r\n": (400, b"bad-request"),
}


class Buffered:
    """The bytes of bodies that Tornado's delegates hold."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0

        received = _HandlerDelegate.data_received

        def data_received(delegate: Any, data: bytes) -> Any:
            result = received(delegate, data)
            self.most = max(self.most, len(delegate.chunks))
            return result

        monkeypatch.setattr(_HandlerDelegate, "data_received", data_received)


@on_both
async def test_refused_body_is_discarded_and_the_connection_stays_open(
    http_server: AnyServer, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    buffered = Buffered(monkeypatch)
    for head, (status, code) in REFUSED.items():
        with subtests.test(head=head):
            async with bare_connection(http_server) as (reader, writer):
                for _ in range(2):
                    writer.write(head + b"Host: x\r\nContent-Length: 300000\r\n\r\n")
                    writer.write(b"x" * 300_000)
                    assert (await reader.readline()).startswith(b"HTTP/1.1 %d " % status)
                    answer = await reader.readuntil(b"\r\n\r\n")
                    assert b"Connection: close" not in answer
                    length = int(answer.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                    assert code in await reader.readexactly(length)
    assert buffered.most == 0


@pytest.mark.parametrize(("token", "status"), [(TOKEN, 413), (b"", 401)], ids=["token", "none"])
@on_both
@cases(
    ("head", "body"),
    [
        (b"Content-Length: 99999999999", b"x" * 1000),
        (b"Content-Length: " + b"9" * 5000, b""),
        (b"Content-Length: 5000000\r\nExpect: 100-continue", b""),
        (b"Transfer-Encoding: chunked", (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 300),
    ],
)
async def test_body_that_would_take_too_long_is_refused_at_once(
    api: Api,
    http_server: AnyServer,
    transport: str,
    head: bytes,
    body: bytes,
    token: bytes,
    status: int,
) -> None:
    beyond_llhttp = transport == "http1" and b"9" * 100 in head
    start = b"PUT /members HTTP/1.1\r\nHost: x\r\n" + token + head
    answer = await answer_before_end(http_server, start + b"\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 %d " % (400 if beyond_llhttp else status))
    assert beyond_llhttp or b"\r\nConnection: close\r\n" in answer
    assert (await api("GET", "/members")).code == 200


async def test_token_is_checked_and_counted_once(api: Api, services: Services) -> None:
    counts = services.tokens.counts
    await api("GET", "/members")
    before = counts.verified + counts.remembered
    assert (await api("PUT", "/members", {"name": "Ada"})).code == 201
    assert counts.verified + counts.remembered == before + 1


async def test_error_in_the_checks_is_a_500(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(type(services.tokens), "verify", fail)
    problem(await api("PUT", "/members", {"name": "Ada"}), 500, "internal-error")


async def test_client_that_disconnects_during_the_checks_is_forgotten(
    api: Api,
    http_server: AnyServer,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    checking, checked = asyncio.Event(), asyncio.Event()
    verify = services.tokens.verify

    async def wait(token: str) -> Any:
        checking.set()
        await checked.wait()
        return await verify(token)

    monkeypatch.setattr(services.tokens, "verify", wait)
    async with bare_connection(http_server) as (_, writer):
        writer.write(b"PUT /members HTTP/1.1\r\nHost: x\r\n" + TOKEN)
        writer.write(b"Content-Length: 99999999\r\n\r\n")
        await checking.wait()
        writer.transport.abort()
    await asyncio.sleep(0.05)
    checked.set()
    await asyncio.sleep(0)
    assert (await api("GET", "/members")).code == 200
    assert "uncaught" not in caplog.text
    assert services.requests.in_flight == 0


@on_both
@cases(
    ("head", "status"),
    [
        (b"Content-Type: text/csv\r\nContent-Length: 99999999999", 401),
        (TOKEN + b"Content-Type: text/csv\r\nContent-Length: 99999999999", 413),
        (TOKEN + b"Content-Type: x/y\r\nContent-Length: 99999999999", 415),
        (b"Content-Type: text/csv\r\nContent-Length: 5000\r\nExpect: 100-continue", 401),
    ],
)
async def test_refused_import_announces_that_it_closes_the_connection(
    http_server: AnyServer, head: bytes, status: int
) -> None:
    async with bare_connection(http_server) as (reader, writer):
        writer.write(b"POST /members/import HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        answer = await reader.read()  # until the connection ends
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in answer
