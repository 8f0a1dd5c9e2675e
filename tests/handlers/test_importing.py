"""POST /members/import over real connections."""

import asyncio
import json
import re
import socket
import struct
from typing import Any

import pymongo
import pytest
from hypothesis import Phase, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.support.api import Api, parsed, problem
from tests.support.cases import cases
from tests.support.suspension import suspend
from tests.support.tokens import make_token
from tests.support.waiting import until
from tests.support.wire import bare_connection, small_connection
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import InvalidMember
from tornado_members.model.member import parse_draft
from tornado_members.services import Services
from tornado_members.settings import Settings

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]

CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
# From a list of officials, with its original faults.
PEOPLE = """state,name,email,phone
ak,Alyse Galvin,representative.alyse.galvin@akleg.gov,907-465-3875
al,"Jack W. ""Jay"" Williams, III",,334-261-0800
al,Jay Williams,jay williams@example.gov,
ar,Mike Holcomb,mike.holcomb@arkansashouse.org,870-879-1234
az,Mike Holcomb,other@example.gov,
ca,,nobody@example.gov,
co,José Menéndez,jose.menendez@example.gov,+1-555-0100
"""


@pytest.fixture
def write_seconds() -> float:
    """A time-out that a test can wait for."""
    return 1.5


@pytest.fixture
def settings(settings: Settings, write_seconds: float) -> Settings:
    """With time-outs that a test can wait for, and a small limit on bodies."""
    mongodb = settings.mongodb.model_copy(update={"timeout_ms": 1000})
    limits = settings.server.limits.model_copy(update={"write_seconds": write_seconds})
    server = settings.server.model_copy(update={"limits": limits})
    members = settings.members.model_copy(update={"transfer_retry_seconds": 1, "import_max_mib": 2})
    return settings.model_copy(update={"mongodb": mongodb, "server": server, "members": members})


async def send(
    api: Api, body: str | bytes, query: str = "", headers: dict[str, str] = CSV
) -> list[dict[str, Any]]:
    """Import rows; return the results."""
    raw = body.encode() if isinstance(body, str) else body
    answer = await api("POST", f"/members/import{query}", raw=raw, headers=headers)
    assert answer.code == 200, answer.body
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    *results, last = [json.loads(line) for line in answer.body.splitlines()]
    counted = dict(last["summary"])
    refused = counted.pop("refused", {})
    assert sum(counted.values()) == sum(r["status"] < 300 for r in results)
    assert sum(refused.values()) == sum(r["status"] >= 400 for r in results)
    return results


def short(results: list[dict[str, Any]]) -> list[tuple[int, int, str, str | None]]:
    return [(r["line"], r["status"], r["code"], r.get("member")) for r in results]


async def test_import_returns_a_result_per_row_in_order(api: Api) -> None:
    results = await send(api, PEOPLE)
    assert short(results) == [
        (2, 201, "created", "/members/1"),
        (3, 201, "created", "/members/2"),
        (4, 422, "invalid-member", None),
        (5, 201, "created", "/members/3"),
        (6, 409, "name-taken", "/members/3"),
        (7, 422, "invalid-member", None),
        (8, 201, "created", "/members/4"),
    ]
    assert results[2]["errors"][0]["pointer"] == "/email"
    assert results[4] == {
        "line": 6,
        "status": 409,
        "code": "name-taken",
        "member": "/members/3",
        "twice": True,
    }
    assert results[5]["errors"] == [{"pointer": "/name", "detail": "is missing"}]
    assert parsed(await api("GET", "/members/2"))["name"] == 'Jack W. "Jay" Williams, III'
    again = await send(api, PEOPLE)
    assert [r["code"] for r in again if r["status"] < 300] == ["unchanged"] * 4
    assert [r["status"] for r in again] == [200, 200, 422, 200, 409, 422, 200]


async def test_rejects_are_returned_with_cells_for_a_file(api: Api) -> None:
    """Header and cells make the file of refused rows, which loads once it is corrected."""
    body = "Full name;Notes;Mail\nAda;x;ada\n\n;=1+1;y\nAda;;ada@example.org\nAda;z;\nBob\n"
    path = "/members/import?results=rejects,after&column=name=%231"
    answer = await api("POST", path, raw=body.encode(), headers=CSV)
    *results, last = [json.loads(line) for line in answer.body.splitlines()]
    assert [(result["line"], result["code"], result["cells"]) for result in results] == [
        (2, "invalid-member", ["Ada", "x", "ada"]),
        (4, "invalid-member", ["", "'=1+1", "y"]),
        (6, "name-taken", ["Ada", "z", ""]),
        (7, "invalid-member", ["Bob"]),
    ]
    assert last["file"] == {
        "format": "CSV",
        "header": ["Full name", "Notes", "Mail"],
        "columns": {"name": ["Full name"], "email": ["Mail"]},
        "ignored": ["Notes"],
        "rejectsHeader": ["line", "reason", "name", "Notes", "Mail"],
    }


async def test_import_lists_ignored_columns(api: Api) -> None:
    answer = await api("POST", "/members/import", raw=PEOPLE.encode(), headers=CSV)
    assert answer.headers["X-Ignored-Columns"] == "state"


LINES = [
    '{"name": "Ada", "email": "ada@example.org"}',
    '{"name": "Bob", "phone": "555-0100"}',
    '{"name": "New"}',
    '{"name": "New", "phone": "555-0199"}',
    '{"name": "Ada"}',
    '{"name": "Ada", "email": "x"}',
    "",
    '{"memberId": 77, "name": "Later", "email": null, "phone": null}',
]


@pytest.mark.parametrize(
    ("on_conflict", "codes", "bob"),
    [
        ("reject", "unchanged name-taken created name-taken name-taken", None),
        ("skip", "unchanged skipped created skipped skipped", None),
        ("replace", "unchanged replaced created name-taken name-taken", "555-0100"),
    ],
)
async def test_on_conflict_and_its_dry_run(
    api: Api, on_conflict: str, codes: str, bob: str | None
) -> None:
    await api.create("Ada", email="ada@example.org")
    await api.create("Bob", email="bob@example.org")
    query = f"?on_conflict={on_conflict}"
    body = "\n".join(LINES)
    rehearsed = await send(api, body, f"{query}&dry_run=true", NDJSON)
    assert len(parsed(await api("GET", "/members"))["items"]) == 2
    real = await send(api, body, query, NDJSON)
    assert [r["code"] for r in real] == [*codes.split(), "invalid-member", "created"]
    new = {r["member"] for r in real if r["status"] == 201}
    without_new = [{k: v for k, v in r.items() if k != "member" or v not in new} for r in real]
    assert rehearsed == without_new
    found = parsed(await api("GET", "/members/by-name/Bob"))
    assert (found["email"], found["phone"]) == ("bob@example.org", bob)
    later = parsed(await api("GET", "/members/by-name/Later"))
    assert later["memberId"] != 77


async def test_dry_run_predicts_many_batches(api: Api) -> None:
    lines = [json.dumps({"name": f"Person {i % 1100}"}) for i in range(2500)]
    rehearsed = await send(api, "\n".join(lines), "?dry_run=true", NDJSON)
    real = await send(api, "\n".join(lines), "", NDJSON)
    assert [(r["line"], r["code"]) for r in real] == [(r["line"], r["code"]) for r in rehearsed]
    assert [r["code"] for r in real].count("created") == 1100
    assert [r["line"] for r in real] == list(range(1, 2501))


_WITHOUT_SHRINKING = (Phase.explicit, Phase.generate)  # which would take minutes, with requests

members: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    name=st.text(
        st.sampled_from("'=+-@;|\"', \u00a0\u200b\ufeff\ufffdaé\u0301👩")
        | st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")),
        min_size=1,
        max_size=20,
    ),
    email=st.sampled_from([None, "ada@example.org", "=x@example.org", "'+a@b.org", "-@b.org"]),
    phone=st.none() | st.text("0123456789+()-./,;#* x", min_size=3, max_size=12),
)


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-ndjson"])
def test_import_restores_an_export(
    io_loop: IOLoop, api: Api, admin: Admin, media_type: str
) -> None:
    query = "?take_suspicious=true" if media_type == "text/csv" else ""  # a name may be "total"

    @given(st.lists(members, min_size=10, max_size=30))
    @example([{"name": "Ada", "phone": "555 0100"}, {"name": "total"}])
    @examples(max_examples=15, phases=_WITHOUT_SHRINKING)
    def round_trip(people: list[dict[str, Any]]) -> None:
        valid: dict[str, dict[str, Any]] = {}
        for person in people:
            try:
                draft = parse_draft(person)
            except InvalidMember:
                continue
            valid.setdefault(draft.name, dict(draft.values))
        io_loop.run_sync(lambda: check(list(valid.values())))

    async def check(people: list[dict[str, Any]]) -> None:
        collection = admin["test"]["members"]
        collection.delete_many({})
        documents = [{"_id": i, "version": 1, **p} for i, p in enumerate(people, 1)]
        if documents:
            collection.insert_many(documents)
        exported = await api("GET", "/members", headers={"Accept": media_type})
        assert exported.code == 200
        collection.delete_many({})
        results = await send(api, exported.body, query, {"Content-Type": media_type})
        assert [r["code"] for r in results] == ["created"] * len(people), (results, exported.body)
        stored = collection.find({}, {"_id": 0, "name": 1, "email": 1, "phone": 1}).sort("_id")
        assert list(stored) == people

    round_trip()


@cases(
    ("query", "headers", "status", "code"),
    [
        ("?dry_run=yes", CSV, 400, "bad-parameter"),
        ("?dry_run=true&dry_run=true", CSV, 400, "bad-parameter"),
        ("?on_conflict=merge", CSV, 400, "bad-parameter"),
        ("?onconflict=skip", CSV, 400, "bad-parameter"),
        ("?column=age=Age", CSV, 400, "bad-parameter"),
        ("?column=email=a&column=email=b", CSV, 400, "bad-parameter"),
        ("?delimiter=ab", CSV, 400, "bad-parameter"),
        ("?encoding=punycode", CSV, 400, "bad-parameter"),
        ("?header_line=0", CSV, 400, "bad-parameter"),
        ("?header_line=0000000001", CSV, 400, "bad-parameter"),
        ("?dry_run=", CSV, 400, "bad-parameter"),
        ("?strict=", CSV, 400, "bad-parameter"),
        ("?take_suspicious=", CSV, 400, "bad-parameter"),
        ("?delimiter=%FF", CSV, 400, "bad-parameter"),
        ("?column=name=%FF", CSV, 400, "bad-parameter"),
        ("?sheet=", CSV, 400, "bad-parameter"),
        (f"?sheet={'s' * 101}", CSV, 400, "bad-parameter"),
        ("?results=none", CSV, 400, "bad-parameter"),
        ("", {"Content-Type": "application/pdf"}, 415, "unsupported-media-type"),
        ("", {"Content-Type": "text/csv; charset=klingon"}, 415, "unsupported-media-type"),
        ("", {**CSV, "Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
        ("", {**CSV, "Accept": "application/json"}, 406, "not-acceptable"),
    ],
)
async def test_import_refuses_a_wrong_request(
    api: Api, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await api("POST", f"/members/import{query}", raw=b"name\nAda\n", headers=headers)
    problem(answer, status, code)
    if status == 415 and "Content-Encoding" not in headers:
        assert answer.headers["Accept-Post"].startswith("text/csv, application/x-ndjson, ")


@cases("body", [b"", b"\n\n", b"a,b\n1,2\n", b'"name\nAda\n', b"name,Name\n"])
async def test_import_refuses_a_file_without_a_usable_header(
    api: Api, services: Services, body: bytes
) -> None:
    found = problem(
        await api("POST", "/members/import", raw=body, headers=CSV), 422, "unreadable-file"
    )
    assert found["detail"].endswith(".")
    assert services.requests.in_flight == 0


async def test_import_needs_the_permission_and_post(api: Api) -> None:
    for rights, status, code in (
        (None, 401, "token-missing"),
        (1, 403, "permission-missing"),
        (0, 403, "permission-missing"),
    ):
        answer = await api("POST", "/members/import", raw=b"name\nA\n", rights=rights, headers=CSV)
        problem(answer, status, code)
    for method in ("GET", "PUT", "DELETE"):
        answer = await api(method, "/members/import", raw=b"x" if method == "PUT" else None)
        assert answer.code == 405
        assert answer.headers["Allow"] == "POST, OPTIONS"


def head(length: int | None, *headers: str, query: str = "", rights: int = 2) -> bytes:
    """Return the head of an import request."""
    body = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    lines = [
        f"POST /members/import{query} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {make_token(access_rights=rights)}",
        *(headers or ["Content-Type: text/csv"]),
        body,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_results_arrive_while_the_body_is_sent(http_server: Any) -> None:
    async with bare_connection(http_server) as (reader, writer):
        writer.write(head(None, "Content-Type: text/csv", "Connection: close"))
        writer.write(chunk(b"name\nAd"))
        writer.write(chunk(b"a\nBob"))
        await reader.readuntil(b"\r\n\r\n")
        await reader.readline()
        assert json.loads(await reader.readline())["code"] == "created"
        await reader.readline()
        writer.write(chunk(b"\nAda\n") + b"0\r\n\r\n")
        rest = await reader.read()
    assert b'"line": 3, "status": 201' in rest
    assert b'"line": 4, "status": 409' in rest
    assert rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("results", ["after", "failures,after"])
async def test_results_wait_for_the_whole_body(
    http_server: Any, admin: Admin, services: Services, results: str
) -> None:
    """For proxies that stop reading a request once its response has begun."""
    async with bare_connection(http_server) as (reader, writer):
        query = f"?results={results}"
        writer.write(head(None, "Content-Type: text/csv", "Connection: close", query=query))
        writer.write(chunk(b"name\nAda\nBob\n,\n"))
        members = admin["test"]["members"]
        await until(lambda: members.count_documents({}) == 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(1)
        writer.write(chunk(b"Cyd\n") + b"0\r\n\r\n")
        received = await reader.read()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.count(b'"created"') == (1 if results == "failures,after" else 4)
    assert received.count(b'"summary"') == 1
    assert received.endswith(b"0\r\n\r\n")
    assert services.requests.in_flight == 0


async def test_disconnect_while_results_wait_leaves_nothing_running(
    http_server: Any, admin: Admin, services: Services
) -> None:
    async with bare_connection(http_server) as (_reader, writer):
        writer.write(head(None, "Content-Type: text/csv", query="?results=after"))
        writer.write(chunk(b"name\nAda\nBob\n"))
        await until(lambda: admin["test"]["members"].count_documents({}) == 2)
    async with asyncio.timeout(9):
        await services.requests.idle.wait()


async def test_refusal_is_sent_before_the_body_and_readable_after_it(http_server: Any) -> None:
    async with bare_connection(http_server) as (reader, writer):
        for _ in range(2):  # the connection remains usable
            writer.write(head(1_000_000, rights=1))
            assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
            writer.write(b"x" * 1_000_000)
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.startswith(b"Content-Length"):
                    length = int(line.split()[1])
            assert json.loads(await reader.readexactly(length))["code"] == "permission-missing"


@pytest.mark.parametrize(
    ("rights", "length", "answer"),
    [(2, 1000, b"HTTP/1.1 100 "), (1, 1000, b"HTTP/1.1 403 "), (2, 3 * 2**20, b"HTTP/1.1 413 ")],
)
async def test_expect_100_continue_is_answered(
    http_server: Any, rights: int, length: int, answer: bytes
) -> None:
    async with bare_connection(http_server) as (reader, writer):
        writer.write(head(length, "Content-Type: text/csv", "Expect: 100-continue", rights=rights))
        assert (await reader.readline()).startswith(answer)


async def test_body_over_the_limit_is_loaded_up_to_it(
    http_server: Any, api: Api, services: Services
) -> None:
    problem(
        await api("POST", "/members/import", raw=b"x" * (2**21 + 1), headers=CSV),
        413,
        "body-too-large",
    )
    async with bare_connection(http_server) as (reader, writer):
        writer.write(head(None) + chunk(b"name\nAda\n") + chunk(b"x" * 2**21) + b"0\r\n\r\n")
        received = await reader.read()
    assert b'"line": 2, "status": 201' in received
    assert b'"status": 413, "code": "body-too-large"' in received
    assert not received.endswith(b"0\r\n\r\n")
    assert (await api("GET", "/members/by-name/Ada")).code == 200
    assert services.requests.in_flight == 0


async def test_client_may_send_everything_before_it_reads(
    http_server: Any, services: Services
) -> None:
    """The results are larger than all buffers of the kernel and of the process together."""
    rows = b",x\n" * 7000
    assert len(rows) // 3000 * 0.3 > services.write_seconds
    async with small_connection(http_server) as (reader, writer):
        writer.write(head(len(rows) + 11, "Content-Type: text/csv", "Connection: close"))
        writer.write(b"name,email\n")
        for start in range(0, len(rows), 3000):
            writer.write(rows[start : start + 3000])
            await writer.drain()
            await asyncio.sleep(0.3)  # in total, longer than a client may read nothing
        received = bytearray()
        while piece := await reader.read(65536):
            received += piece
    assert received.endswith(b"\r\n0\r\n\r\n")
    content = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", received)  # a result may span two chunks
    assert content.count(b'"is missing"') == 7000
    assert services.requests.in_flight == 0


async def test_client_that_never_reads_is_disconnected_between_batches(
    http_server: Any, services: Services, admin: Admin
) -> None:
    rows = b"name,email\n" + b"Ada,\n" * 500 + b",x\n" * 7000
    async with small_connection(http_server) as (_reader, writer):
        writer.write(head(len(rows)) + rows)
        async with asyncio.timeout(9):
            await asyncio.sleep(0.1)
            await services.requests.idle.wait()
        assert admin["test"]["members"].count_documents({}) == 1


@pytest.mark.parametrize("how", ["aborts", "ends"])
async def test_interrupted_import_loads_whole_lines_and_can_be_repeated(
    http_server: Any, services: Services, admin: Admin, api: Api, how: str
) -> None:
    rows = "name\n" + "".join(f"Person {i}\n" for i in range(1500))
    collection = admin["test"]["members"]
    async with bare_connection(http_server) as (_reader, writer):
        writer.write(head(len(rows) + 100) + rows.encode() + b"Half a na")
        await until(lambda: collection.count_documents({}) > 0)
        if how == "aborts":
            writer.transport.abort()
        else:
            writer.write_eof()
        async with asyncio.timeout(60):
            await services.requests.idle.wait()
    there = collection.count_documents({})
    assert 0 < there <= 1500
    assert collection.count_documents({"name": {"$regex": "^Person [0-9]+$"}}) == there
    codes = [r["code"] for r in await send(api, rows)]
    assert codes == ["unchanged"] * there + ["created"] * (1500 - there)
    assert len(asyncio.all_tasks()) < 12, "something was left running"


async def test_import_waits_for_an_outage_and_reports_a_long_one(
    http_server: Any, servers: PrivateServers, services: Services
) -> None:
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    rows = b"".join(b"Person %d\n" % i for i in range(400))
    for outage, is_short in ((0.3, True), (0.0, False)):
        async with bare_connection(http_server) as (reader, writer):
            writer.write(head(None, "Content-Type: text/csv", "Connection: close"))
            writer.write(chunk(b"name\n%d\n" % is_short))
            await reader.readuntil(b'"created"')
            suspend(mongod)
            try:
                writer.write(chunk(rows) + b"0\r\n\r\n")
                reading = asyncio.create_task(reader.read())
                await asyncio.wait([reading], timeout=outage or 8)
            finally:
                mongod.resume()
            received = await reading
        assert received.endswith(b"0\r\n\r\n") is is_short
        last = json.loads(received.split(b"\r\n")[-2 if not is_short else -6].splitlines()[-1])
        if is_short:
            # This import reports the rows that its first attempts loaded as its own.
            assert received.count(b'"code": "created"') == 400
        else:
            assert (last["status"], last["code"]) == (503, "dependency-unavailable")
            assert last["line"] == 3
    assert services.requests.in_flight == 0


async def test_hostile_bodies_have_results(api: Api) -> None:
    """None is a 5xx, and none stops the rest."""
    for body in (
        b"name\n" + b'"' * 100_000 + b"\nLast\n",
        b"name\n" + b'x"a","\n' * 14_000 + b"Last\n",
        b"name\n" + b"x" * 100_000 + b"\nLast\n",
        b"name\n\x00\n\xff\xfe\n\xf0\x9f\x98\n" + b"Last\n",
        b"name\n" + b"\n" * 50_000 + b"Last\n",
        b"name\n" + b"," * 60_000 + b"\nLast\n",
    ):
        results = await send(api, body, "?on_conflict=skip")
        assert results[-1]["code"] in ("created", "unchanged"), body[:20]
        assert {r["status"] for r in results[:-1]} <= {200, 201, 409, 422}
    deep = b"[" * 60_000 + b'\n{"name": "Last"}\n' + b'{"a":' * 10_000
    assert [r["status"] for r in await send(api, deep, "", NDJSON)] == [422, 200, 422]


async def test_undecodable_rows_are_refused_with_their_line(api: Api) -> None:
    results = await send(api, b"name\nAda\nJos\xe9\nBob\n")
    assert [r["status"] for r in results] == [201, 422, 201]
    assert results[1]["line"] == 3
    assert "UTF-8" in results[1]["errors"][0]["detail"]


async def test_quoted_line_breaks_between_two_chunks(http_server: Any) -> None:
    body = '\ufeffname,note\r\n"Ada","two\r\nlines ""here"""\r\nBob,x\r\n'.encode()
    for size in (1, 2, 5):
        async with bare_connection(http_server) as (reader, writer):
            writer.write(
                head(None, "Content-Type: text/csv", "Connection: close", query="?dry_run=true")
            )
            for start in range(0, len(body), size):
                writer.write(chunk(body[start : start + size]))
                if start % 7 == 0:
                    await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")
            received = await reader.read()
        assert b'"line": 2, "status": 201' in received
        assert b'"line": 4, "status": 201' in received
        assert received.count(b'"line"') == 2


async def test_disconnect_before_the_first_row_leaves_nothing_running(
    http_server: Any, services: Services
) -> None:
    async with bare_connection(http_server) as (_reader, writer):
        writer.write(head(100) + b"na")
        await until(lambda: services.requests.in_flight == 1)
        writer.transport.abort()
        await services.requests.idle.wait()


async def test_disconnect_during_the_checks_of_the_head_begins_no_import(
    http_server: Any, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of an issuer, or the count of a caller's requests, can take their time."""
    admit, reached, released = services.admission.admit, asyncio.Event(), asyncio.Event()

    async def admit_late(*arguments: Any) -> Any:
        reached.set()
        await released.wait()
        return await admit(*arguments)

    monkeypatch.setattr(services.admission, "admit", admit_late)
    before = asyncio.all_tasks()
    async with bare_connection(http_server) as (_reader, writer):
        writer.write(head(100) + b"na")
        await reached.wait()
        linger = struct.pack("ii", 1, 0)  # a reset, which the server sees while it does not read
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await services.requests.idle.wait()
    released.set()
    await until(lambda: not asyncio.all_tasks() - before)


@pytest.mark.own_services  # it counts requests from zero
@pytest.mark.parametrize("length", [10, 300_000, 3_000_000, None])
async def test_unknown_method_is_a_405(
    http_server: Any, services: Services, caplog: pytest.LogCaptureFixture, length: int | None
) -> None:
    """Tornado responds before it prepares the handler, and the body is not read."""
    async with small_connection(http_server) as (reader, writer):
        writer.write(head(length).replace(b"POST", b"BREW", 1) + b"1")
        assert (await reader.readline()).startswith(b"HTTP/1.1 405 ")
    async with asyncio.timeout(9):
        while services.requests.in_flight:
            await asyncio.sleep(0.01)
    assert [sum(histogram.counts) for histogram in services.requests.durations.values()] == [1]
    assert "uncaught" not in caplog.text.lower()


@pytest.mark.parametrize("write_seconds", [60])  # the client reads late if the loop is busy
async def test_import_replace_undoes_no_patch(api: Api) -> None:
    """Imports write the e-mail address, PATCHes the telephone number: neither undoes the other."""
    names = [f"Person {i}" for i in range(200)]
    await send(api, "name\n" + "\n".join(names))
    is_over = False

    async def patch(member_id: int) -> int:
        count = 0
        while not is_over:
            phone = f"555-{count:04}"
            merge_patch = {"Content-Type": "application/merge-patch+json"}
            path = f"/members/{member_id}"
            await api("PATCH", path, {"phone": phone}, headers=merge_patch)
            assert parsed(await api("GET", path))["phone"] == phone
            count += 1
        return count

    patching = [asyncio.create_task(patch(member_id)) for member_id in (1, 50, 100, 150, 200)]
    for turn in range(3):
        rows = "".join(f"{name},turn{turn}@example.org\n" for name in names)
        results = await send(api, "name,email\n" + rows, "?on_conflict=replace")
        assert {r["code"] for r in results} == {"replaced"}
        for member in parsed(await api("GET", "/members?limit=200"))["items"]:
            assert member["email"] == f"turn{turn}@example.org"
    is_over = True
    assert min(await asyncio.gather(*patching)) > 1
