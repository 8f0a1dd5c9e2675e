"""Invalid tokens, sent to the listening service."""

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.auth.test_tokens import BAD_TOKENS, GOOD
from tests.support.tokens import make_token
from tests.support.wire import AnyServer, bare_connection

LARGEST = 15_000  # characters: larger tokens do not fit into server.limits.header_bytes


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: bytes) -> int:
    """Send a read with this token; check that the refusal is a whole problem; return its status."""
    writer.write(
        b"GET /members/1 HTTP/1.1\r\nHost: members\r\nAuthorization: Bearer %b\r\n\r\n" % token
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
    problem = json.loads(await reader.readexactly(length))
    status = int(head.split(" ")[1])
    assert problem["status"] == status
    if status == 401:
        assert "\r\nWww-Authenticate: Bearer " in head
    return status


async def test_hostile_token_is_a_401(http_server: AnyServer) -> None:
    async with bare_connection(http_server) as (reader, writer):
        for what, token in BAD_TOKENS.items():
            if "\n" not in token and len(token) < LARGEST:
                sent = token.encode("utf-8", "surrogatepass")
                assert await send(reader, writer, sent) == 401, what
        assert await send(reader, writer, make_token(access_rights=0).encode()) == 403
        assert await send(reader, writer, make_token(access_rights=1).encode()) == 404


# Every character that fits into a header line.
PRINTABLE = st.binary(max_size=8).map(lambda b: bytes(c for c in b if 32 < c < 127 or c > 160))


def test_mutated_token_is_a_401(io_loop: IOLoop, http_server: AnyServer) -> None:
    @given(st.data())
    def check_mutated(data: st.DataObject) -> None:
        good = data.draw(st.sampled_from([GOOD, make_token("ES256"), make_token("EdDSA")])).encode()
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, min(len(good), start + 8)))
        mutated = good[:start] + data.draw(PRINTABLE) + good[end:]

        async def answer() -> int:
            async with bare_connection(http_server) as (reader, writer):
                return await send(reader, writer, mutated)

        if mutated != good:
            assert io_loop.run_sync(answer) == 401

    check_mutated()
