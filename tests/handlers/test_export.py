"""GET /members as a stream of all members, at the pace of its client."""

import asyncio
import csv
import gzip
import io
import itertools
import json
import zlib
from contextlib import suppress
from typing import Any

import pymongo
import pytest

from tests.support.api import Api, parsed, problem
from tests.support.cases import cases
from tests.support.suspension import suspend
from tests.support.tokens import make_token
from tests.support.wire import bare_connection, small_connection
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.services import Services
from tornado_members.settings import Settings

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]

CSV = {"Accept": "text/csv"}
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With time-outs that a test can wait for."""
    limits = settings.server.limits.model_copy(update={"write_seconds": 0.5})
    server = settings.server.model_copy(update={"limits": limits})
    members = settings.members.model_copy(update={"transfer_retry_seconds": 1})
    return settings.model_copy(update={"server": server, "members": members})


def fill(admin: Admin, database: str, count: int, length: int = 10) -> None:
    """Members that are available at once."""
    admin[database]["members"].insert_many(
        {"_id": i, "name": f"{i:0{length}}", "email": None, "phone": "+1 555", "version": 1}
        for i in range(1, count + 1)
    )


async def test_export_has_every_member_in_every_type(
    api: Api, admin: Admin, database_name: str
) -> None:
    fill(admin, database_name, 1201)  # two full batches and a partial one
    sent = await api("GET", "/members", headers=CSV)
    assert sent.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert sent.headers["Content-Disposition"] == 'attachment; filename="members.csv"'
    assert "Accept" in sent.headers["Vary"]
    assert "Accept-Encoding" in sent.headers["Vary"]
    assert sent.headers["Cache-Control"] == "private, no-cache"
    assert "ETag" not in sent.headers
    text = sent.body.decode()
    assert text.startswith("memberId,name,email,phone\r\n1,0000000001,,'+1 555\r\n2,")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [int(row[0]) for row in rows[1:]] == list(range(1, 1202))
    lines = (await api("GET", "/members", headers=NDJSON)).body.splitlines()
    assert [json.loads(line)["memberId"] for line in lines] == list(range(1, 1202))
    assert parsed(await api("GET", "/members?limit=1000"))["items"] == [
        json.loads(line) for line in lines[:1000]
    ]


async def test_line_of_an_export_is_the_body_of_a_read(api: Api) -> None:
    for name in ("Ada", 'Quote " and \\', "Zoë 😀", "Ünïcode\u0301"):
        await api.create(name, phone="+1 555 0100")
    lines = (await api("GET", "/members", headers=NDJSON)).body.split(b"\n")
    assert lines.pop() == b""
    assert lines == [(await api("GET", f"/members/{i}")).body for i in range(1, 5)]


async def test_export_csv_is_safe_for_spreadsheets(api: Api, admin: Admin) -> None:
    fill(admin, "test", 2)
    sent = await api("GET", "/members?bom=true&delimiter=%3B", headers=CSV)
    assert sent.body.decode("utf-8-sig").splitlines() == [
        "memberId;name;email;phone",
        *("1;0000000001;;'+1 555", "2;0000000002;;'+1 555"),
    ]
    assert sent.body.startswith(b"\xef\xbb\xbfmemberId")
    again = await api(
        "POST", "/members/import", raw=sent.body, headers={"Content-Type": "text/csv"}
    )
    assert json.loads(again.body.splitlines()[-1]) == {"summary": {"unchanged": 2}}
    tabs = await api("GET", "/members?delimiter=tab", headers=CSV)
    assert tabs.body.startswith(b"memberId\tname\t")
    for query, accept in itertools.product(
        ("bom=1", "bom=", "delimiter=x", "delimiter="), (CSV, NDJSON, {})
    ):
        answer = await api("GET", f"/members?{query}", headers=accept)
        parameter = query.partition("=")[0]
        assert problem(answer, 400, "bad-parameter")["parameter"] == parameter


async def test_export_accepts_the_parameters_of_the_list(api: Api, admin: Admin) -> None:
    fill(admin, "test", 1201)

    async def ids(query: str) -> list[int]:
        answer = await api("GET", f"/members?{query}", headers=NDJSON)
        assert answer.code == 200, answer.body
        return [json.loads(line)["memberId"] for line in answer.body.splitlines()]

    assert await ids("sort=-name") == list(range(1201, 0, -1))
    assert await ids("limit=3") == [1, 2, 3]
    assert await ids("limit=501&sort=-memberId") == list(range(1201, 700, -1))
    assert await ids("limit=5000") == list(range(1, 1202))
    following = parsed(await api("GET", "/members?limit=1000"))["next"]
    after = following.partition("after=")[2]
    assert await ids(f"after={after}") == list(range(1001, 1202))
    assert await ids("phone=%2B1%20555&limit=2") == [1, 2]
    assert await ids("name=0000000700&sort=-name") == [700]
    for query in ("limit=0", "limit=x", "limit=", "limit=1&limit=2", "skip=1", "after=x"):
        problem(await api("GET", f"/members?{query}", headers=CSV), 400, "bad-parameter")


async def test_export_without_members_is_a_header(api: Api) -> None:
    assert (await api("GET", "/members", headers=CSV)).body == b"memberId,name,email,phone\r\n"
    empty = await api("GET", "/members", headers=NDJSON)
    assert (empty.code, empty.body) == (200, b"")


@cases(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv, */*;q=0.1", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.6", "application/json"),
        ("application/json;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("application/json;q=0, application/*", "application/x-ndjson"),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "application/json"),
        ("TEXT/CSV", "text/csv"),
    ],
)
async def test_export_has_the_preferred_type(api: Api, accept: str, expected: str) -> None:
    answer = await api("HEAD", "/members", headers={"Accept": accept})
    assert answer.headers["Content-Type"].partition(";")[0] == expected


async def test_export_in_an_unsupported_type_is_406(api: Api) -> None:
    found = problem(
        await api("GET", "/members", headers={"Accept": "text/html"}), 406, "not-acceptable"
    )
    assert "text/csv" in found["detail"]
    problem(await api("PUT", "/members", {"name": "Ada"}, headers=CSV), 406, "not-acceptable")
    problem(await api("GET", "/members", rights=None, headers=CSV), 401, "token-missing")
    problem(await api("GET", "/members", rights=0, headers=CSV), 403, "permission-missing")


async def test_export_head_has_the_headers_without_a_database_read(
    api: Api, servers: PrivateServers
) -> None:
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    suspend(mongod)
    try:
        answer = await api("HEAD", "/members", headers=CSV)
    finally:
        mongod.resume()
    assert answer.code == 200
    assert answer.headers["Content-Disposition"]
    assert "Content-Length" not in answer.headers


@pytest.mark.parametrize(("accepted", "is_compressed"), [("gzip", True), ("gzip;q=0", False)])
async def test_export_is_compressed_on_request(
    api: Api, admin: Admin, accepted: str, is_compressed: bool
) -> None:
    fill(admin, "test", 1201)
    plain = (await api("GET", "/members", headers=CSV)).body
    headers = {**CSV, "Accept-Encoding": accepted}
    answer = await api("GET", "/members", headers=headers, decompress_response=False)
    assert answer.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
    assert (gzip.decompress(answer.body) if is_compressed else answer.body) == plain


def request(path: str, *headers: str, version: str = "1.1") -> bytes:
    """A GET request with a token."""
    lines = [
        f"GET {path} HTTP/{version}",
        "Host: x",
        f"Authorization: Bearer {make_token(access_rights=1)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_export_flushes_compressed_data_after_each_batch(
    http_server: Any, admin: Admin
) -> None:
    fill(admin, "test", 1201)
    async with bare_connection(http_server) as (reader, writer):
        writer.write(request("/members", "Accept: text/csv", "Accept-Encoding: gzip"))
        await reader.readuntil(b"\r\n\r\n")
        size = int(await reader.readline(), 16)
        first = zlib.decompressobj(31).decompress(await reader.readexactly(size))
    assert first.startswith(b"memberId,name,email,phone\r\n1,")
    assert first.endswith(b"\r\n")
    assert first.count(b"\r\n") == 51  # and the header


async def test_export_disconnects_a_client_that_reads_nothing(
    http_server: Any, services: Services, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    fill(admin, "test", 8000, length=255)
    async with small_connection(http_server) as (reader, writer):
        writer.write(request("/members", "Accept: text/csv"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert services.requests.in_flight == 1
        async with asyncio.timeout(60):
            await services.requests.idle.wait()
        rest = await read_all(reader)
    assert not rest.endswith(b"0\r\n\r\n")
    assert "read nothing for 0.5 seconds" in caplog.text


async def test_export_serves_a_slow_client(
    http_server: Any, services: Services, admin: Admin
) -> None:
    """In total the client takes much longer than server.limits.write_seconds."""
    fill(admin, "test", 3000, length=255)
    async with small_connection(http_server) as (reader, writer):
        writer.write(request("/members", "Accept: text/csv", "Connection: close"))
        received = bytearray()
        while piece := await reader.read(16384):
            received += piece
            await asyncio.sleep(0.03)
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert received.count(b"'+1 555\r\n") == 3000
    assert services.requests.in_flight == 0


async def test_export_ends_when_its_client_disconnects(
    http_server: Any, services: Services, admin: Admin
) -> None:
    fill(admin, "test", 8000, length=255)
    async with small_connection(http_server) as (reader, writer):
        writer.write(request("/members", "Accept: text/csv"))
        await reader.readline()
        writer.transport.abort()
        async with asyncio.timeout(0.4):  # before the client would be disconnected
            await services.requests.idle.wait()


async def read_all(
    reader: asyncio.StreamReader, suppressed: tuple[type[OSError], ...] = (ConnectionError,)
) -> bytes:
    received = bytearray()
    with suppress(*suppressed):
        while piece := await reader.read(65536):
            received += piece
    return bytes(received)


class TestOutages:
    """With a time-out of MongoDB that is shorter than the outages."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        mongodb = settings.mongodb.model_copy(update={"timeout_ms": 300})
        return settings.model_copy(update={"mongodb": mongodb})

    async def test_export_waits_for_a_short_outage_and_is_aborted_by_a_long_one(
        self, http_server: Any, admin: Admin, servers: PrivateServers, services: Services
    ) -> None:
        (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
        fill(admin, "test", 3000, length=255)
        for is_short in (True, False):
            async with small_connection(http_server) as (reader, writer):
                writer.write(request("/members", "Accept: text/csv", "Connection: close"))
                await reader.readline()
                suspend(mongod)
                try:
                    reading = asyncio.create_task(read_all(reader))
                    if is_short:
                        await asyncio.sleep(0.2)
                    else:
                        await asyncio.wait([reading], timeout=8)
                        assert reading.done()
                finally:
                    mongod.resume()
                received = await reading
            assert received.endswith(b"0\r\n\r\n") is is_short
            if is_short:
                assert received.count(b"'+1 555\r\n") == 3000
        assert services.requests.in_flight == 0

    async def test_export_during_an_outage_is_a_503(
        self, api: Api, servers: PrivateServers
    ) -> None:
        (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
        suspend(mongod)
        try:
            answer = await api("GET", "/members", headers=CSV)
        finally:
            mongod.resume()
        problem(answer, 503, "dependency-unavailable")
        assert "Content-Disposition" not in answer.headers


@pytest.mark.parametrize("keep_alive", ["Connection: keep-alive", "X-None: none"])
async def test_export_to_http_1_0_ends_with_the_connection(
    http_server: Any, admin: Admin, keep_alive: str
) -> None:
    fill(admin, "test", 3)
    async with bare_connection(http_server) as (reader, writer):
        writer.write(request("/members", "Accept: text/csv", keep_alive, version="1.0"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"Keep-Alive" not in head
    assert body.count(b"\r\n") == 4


async def test_export_to_http_1_0_is_reset_if_incomplete(http_server: Any, admin: Admin) -> None:
    fill(admin, "test", 8000, length=255)
    async with small_connection(http_server) as (reader, writer):
        writer.write(request("/members", "Accept: text/csv", version="1.0"))
        await reader.readline()
        await asyncio.sleep(1)
        with pytest.raises(ConnectionError):
            await read_all(reader, suppressed=())
