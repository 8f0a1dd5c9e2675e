"""Several members in one request: the members that single reads return, by the same rules."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from gzip import decompress
from typing import Any

import pytest
from tornado.httpclient import HTTPResponse

from tests.support.api import Api, parsed, problem
from tests.support.members import make_draft
from tornado_members.cached_members import MemberSelector
from tornado_members.lease_cache.commands import Command
from tornado_members.lease_cache.connection import MemcachedConnection
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.simple_commands import OneLine
from tornado_members.member_entries import MemberBatch, id_keys
from tornado_members.services import Services
from tornado_members.storage.members import MemberStore

pytestmark = pytest.mark.shared_services

LARGEST = 2**53 - 1


async def create(services: Services, count: int) -> None:
    """Create members with the ids from 1 to `count`."""
    store = services.directory._store
    await store.insert_many([make_draft(name=f"Member {number}") for number in range(1, count + 1)])


async def get(api: Api, *member_ids: int, **headers: str) -> HTTPResponse:
    listed = ",".join(map(str, member_ids))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api("GET", f"/members?memberId={listed}", headers=sent)


async def look_up(api: Api, *member_ids: int) -> HTTPResponse:
    return await api("POST", "/members/lookup", {"memberIds": [*member_ids]})


BOTH = pytest.mark.parametrize("read", [get, look_up])


def ids_in(answer: HTTPResponse) -> tuple[list[int], list[int]]:
    assert answer.code == 200, answer.body
    body = parsed(answer)
    assert [*body] == ["items", "missing", "next"]
    assert body["next"] is None
    return [item["memberId"] for item in body["items"]], body["missing"]


def status_of(answer: HTTPResponse) -> str:
    return answer.headers["Cache-Status"].removeprefix("memcached; ")


@BOTH
async def test_batch_has_the_members_in_the_order_asked_each_once(
    api: Api, services: Services, read: Any
) -> None:
    await create(services, 9)
    answer = await read(api, 7, 77, 3, 7, 9, LARGEST, 3, 77, 1)
    assert ids_in(answer) == ([7, 3, 9, 1], [77, LARGEST])
    single = await api("GET", "/members/7")
    assert parsed(answer)["items"][0] == parsed(single)
    assert single.body in answer.body
    for name in ("Cache-Control", "Content-Type", "X-Content-Type-Options"):
        assert answer.headers[name] == single.headers[name]
    assert answer.headers["Vary"] == "Accept-Encoding, Authorization, Accept"
    assert "Etag" not in answer.headers
    assert ids_in(await read(api, 88, 77)) == ([], [88, 77])


async def test_batches_members_and_names_of_one_turn_are_found_as_alone(
    services: Services,
) -> None:
    await create(services, 9)
    directory = services.directory
    selectors: list[MemberSelector] = [
        id_keys("7,3,7,1"),
        3,
        id_keys("3,5"),
        "Member 5",
        id_keys("2,1,77"),
    ]
    await directory.get_many([1, 2, 3, 5, 7, 77])
    await directory.get_by_name("Member 5")

    async def find(selector: MemberSelector) -> Any:
        if isinstance(selector, KeyList):
            cached = await directory.get_cached_batch(selector)
        else:
            cached = await directory.get_cached([selector])
        return cached.find(selector)

    alone = [await find(selector) for selector in selectors]
    assert None not in alone
    for some in itertools.permutations(selectors):
        assert await asyncio.gather(*map(find, some)) == [
            alone[selectors.index(selector)] for selector in some
        ]


@BOTH
async def test_batch_reports_how_many_members_were_hits(
    api: Api, services: Services, read: Any
) -> None:
    await create(services, 6)
    counts = services.directory.cache_counts
    hits, misses, fills = counts.hits, counts.misses, counts.fills
    assert status_of(await read(api, 1, 2, 77)) == "fwd=partial; detail=0/3"
    assert (counts.hits - hits, counts.misses - misses, counts.fills - fills) == (0, 3, 3)
    assert status_of(await read(api, 77, 2, 1)) == "hit"  # that no member has an id is cached, too
    assert (counts.hits - hits, counts.misses - misses, counts.fills - fills) == (3, 3, 3)
    assert status_of(await read(api, 2, 3, 1, 4, 77)) == "fwd=partial; detail=3/5"
    assert status_of(await api("GET", "/members/4")) == "hit"
    assert status_of(await api("GET", "/members/5")) == "fwd=miss; stored"
    assert status_of(await read(api, 5)) == "hit"


@BOTH
async def test_batch_mixes_hits_misses_tombstones_and_absent_members(
    api: Api, services: Services, read: Any
) -> None:
    await create(services, 5)
    await read(api, 1, 2, 88)
    cache: Any = services.directory._cache
    bypasses = services.directory.cache_counts.bypasses
    before = bypasses["tombstone"]
    async with cache.changing(b"member:2", b"member:3"):
        for _ in range(2):
            answer = await read(api, 1, 2, 3, 4, 88, 99)
            assert ids_in(answer) == ([1, 2, 3, 4], [88, 99])
        assert status_of(answer) == "fwd=partial; detail=4/6"
    await read(api, 1, 2, 3, 4, 88, 99)
    assert status_of(await read(api, 1, 2, 3, 4, 88, 99)) == "hit"
    assert bypasses["tombstone"] == before + 4


@BOTH
async def test_batch_returns_changes_at_once(api: Api, services: Services, read: Any) -> None:
    await create(services, 3)
    for number in range(4):
        fields = {"name": "Two", "phone": f"555 000{number}"}
        assert (await api("PUT", "/members/2", fields)).code == 200
        for _ in range(2):
            body = parsed(await read(api, 1, 2, 3, 4))
            assert body["items"][1] == {"memberId": 2, "email": None, **fields}
    assert (await api("DELETE", "/members/2")).code == 204
    assert (await api("PUT", "/members", {"name": "Four"})).code == 201
    assert ids_in(await read(api, 1, 2, 3, 4)) == ([1, 3, 4], [2])


async def test_batch_with_no_cache_reads_mongodb(api: Api, services: Services) -> None:
    await create(services, 3)
    await get(api, 1, 2, 3)
    await services.directory._store._members.update_one({"_id": 2}, {"$set": {"phone": "0000"}})
    assert parsed(await get(api, 2))["items"][0]["phone"] is None
    answer = await get(api, 2, 77, Cache_Control="no-cache")
    assert parsed(answer)["items"][0]["phone"] == "0000"
    assert ids_in(answer) == ([2], [77])
    assert status_of(answer) == "fwd=request"


async def test_batch_is_compressed_and_answers_head(api: Api, services: Services) -> None:
    await create(services, 50)
    path = "/members?memberId=" + ",".join(map(str, range(1, 51)))
    plain = await api("GET", path, decompress_response=False)
    gzip = {"Accept-Encoding": "gzip"}
    short = await api("GET", path, headers=gzip, decompress_response=False)
    assert decompress(short.body) == plain.body
    for headers, answer in (({}, plain), (gzip, short)):
        head = await api("HEAD", path, headers=headers, decompress_response=False)
        assert (head.code, head.body) == (200, b"")
        assert head.headers["Content-Length"] == str(len(answer.body))
    for condition in ({"If-None-Match": "*"}, {"If-Match": '"1"'}):  # as in lists
        answer = await api("GET", "/members?memberId=1", headers=condition)
        assert answer.code == 200


@pytest.mark.parametrize("encoded", ["%2C", "%2c", ","])
async def test_batch_takes_encoded_commas(api: Api, services: Services, encoded: str) -> None:
    await create(services, 3)
    answer = await api("GET", f"/members?memberId=3{encoded}1{encoded}%32")
    assert ids_in(answer) == ([3, 1, 2], [])


MALFORMED = {
    "": ['""'],
    "0": ['"0"'],
    "1,0,2,x": ['"0"', '"x"'],
    "1,,2": ['""'],
    ",1": ['""'],
    "1,": ['""'],
    "1," + "9" * 23: ['"' + "9" * 23 + '"'],
    str(LARGEST + 1): [f'"{LARGEST + 1}"'],
    "01": ['"01"'],
    "-1": ['"-1"'],
    "+1": ['" 1"'],
    "1.0": ['"1.0"'],
    "1e3": ['"1e3"'],
    "1%20": ['"1 "'],
    "%D9%A1": ['"\\u0661"'],
    "%FF": ['"\\ufffd"'],
    "1%00": ['"1\\u0000"'],
    "1;2": ['"1;2"'],
    ",".join(["y"] * 12): ["and 2 more"],
    "a" * 200: ['"' + "a" * 40 + '"'],
}


async def test_malformed_ids_are_named(api: Api) -> None:
    for query, named in MALFORMED.items():
        found = problem(await api("GET", f"/members?memberId={query}"), 400, "bad-parameter")
        assert found["parameter"] == "memberId", query
        for text in named:
            assert text in found["detail"], (query, found["detail"])
        assert "memberIds" not in found["detail"]


async def test_member_ids_cannot_be_combined_with_other_parameters(api: Api) -> None:
    for other in ("sort=name", "limit=5", "after=x", "name=Ada", "email=x", "bom=true", "limit="):
        for query in (f"memberId=1&{other}", f"{other}&memberId=1"):
            found = problem(await api("GET", f"/members?{query}"), 400, "bad-parameter")
            assert found["parameter"] == "memberId", query
            assert other.partition("=")[0] in found["detail"]
    for query in ("memberId=1&memberId=2", "memberId=1&memberId=1"):
        found = problem(await api("GET", f"/members?{query}"), 400, "bad-parameter")
        assert found["parameter"] == "memberId"
    found = problem(await api("GET", "/members?memberId=1&colour=red"), 400, "bad-parameter")
    assert found["parameter"] == "colour"
    for accept, status in (("text/csv", 406), ("application/x-ndjson", 406), ("text/html", 406)):
        answer = await api("GET", "/members?memberId=1", headers={"Accept": accept})
        problem(answer, status, "not-acceptable")
    accept = "text/csv, application/json;q=0.5"
    assert (await api("GET", "/members?memberId=1", headers={"Accept": accept})).code == 200


async def test_batch_is_limited_in_length(api: Api) -> None:
    most = [*range(LARGEST - 199, LARGEST + 1)]
    assert ids_in(await get(api, *most, *most)) == ([], most)
    found = problem(await get(api, 1, *most), 400, "bad-parameter")
    assert found["parameter"] == "memberId"
    assert "201 ids" in found["detail"]
    most = [*range(LARGEST - 999, LARGEST + 1)]
    assert ids_in(await look_up(api, *most)) == ([], most)
    (fault,) = problem(await look_up(api, 1, *most), 422, "invalid-lookup")["errors"]
    assert fault == {"pointer": "/memberIds", "detail": "has 1001 ids; at most 1000 are allowed"}
    problem(await look_up(api, *most, *most), 413, "body-too-large")


BODIES: list[tuple[Any, list[str]]] = [
    ({}, ["/memberIds"]),
    ({"memberIds": None}, ["/memberIds"]),
    ({"memberIds": 7}, ["/memberIds"]),
    ({"memberIds": "7,42"}, ["/memberIds"]),
    ({"memberIds": {"7": 1}}, ["/memberIds"]),
    ({"memberIds": [7, 0, 3, -1]}, ["/memberIds/1", "/memberIds/3"]),
    ({"memberIds": [True, 1.5, "1", None, [1], {}]}, [f"/memberIds/{i}" for i in range(6)]),
    ({"memberIds": [LARGEST, LARGEST + 1, 10**22]}, ["/memberIds/1", "/memberIds/2"]),
    ({"memberId": [1], "memberIds": [0], "x": 1}, ["/memberId", "/x", "/memberIds/0"]),
]


async def test_lookup_reports_all_faults_at_once(api: Api) -> None:
    for body, pointers in BODIES:
        faults = problem(await api("POST", "/members/lookup", body), 422, "invalid-lookup")
        assert [fault["pointer"] for fault in faults["errors"]] == pointers, body
    many = problem(await look_up(api, *([0] * 2000)), 422, "invalid-lookup")
    assert len(many["errors"]) == 100
    assert "2000 faults" in many["detail"]
    problem(await api("POST", "/members/lookup", [1]), 400, "malformed-body")
    problem(
        await api("POST", "/members/lookup?memberId=1", {"memberIds": [1]}), 400, "bad-parameter"
    )
    assert ids_in(await look_up(api)) == ([], [])
    ids = [3.0, 3, float(LARGEST)]  # JSON Schema: 3.0 is an integer
    whole = await api("POST", "/members/lookup", {"memberIds": ids})
    assert ids_in(whole) == ([], [3, LARGEST])
    assert b".0" not in whole.body


async def test_lookup_supports_post_only_and_requires_the_permission_to_read(api: Api) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        answer = await api(method, "/members/lookup")
        assert (answer.code, answer.headers["Allow"]) == (405, "POST, OPTIONS"), method
    assert (await api("OPTIONS", "/members/lookup")).headers["Allow"] == "POST, OPTIONS"
    for path, method in (("/members/lookup", "POST"), ("/members?memberId=1", "GET")):
        body = {"memberIds": [1]} if method == "POST" else None
        problem(await api(method, path, body, rights=None), 401, "token-missing")
        refused = problem(await api(method, path, body, rights=0), 403, "permission-missing")
        assert refused["permission"] == "members:read"
        assert (await api(method, path, body, rights=1)).code == 200


async def test_large_batches_take_turns(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take 40 MB. Small ones do not wait."""
    held = asyncio.Event()
    running = 0

    async def wait(ids: Sequence[int], **_: Any) -> MemberBatch:
        nonlocal running
        if len(ids) > 200:
            running += 1
            await held.wait()
        return MemberBatch([], [*ids], "hit")

    monkeypatch.setattr(services.directory, "get_many", wait)
    async with asyncio.TaskGroup() as group:
        large = [group.create_task(look_up(api, *range(1, 202))) for _ in range(9)]
        assert (await look_up(api, *range(1, 201))).code == 200
        async with asyncio.timeout(60):
            while running < 8:
                await asyncio.sleep(0.01)
        await look_up(api, 1)
        assert running == 8
        held.set()
    assert {request.result().code for request in large} == {200}


async def test_batches_of_one_turn_share_a_query(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request per node and one query, for all callers and all members."""
    await create(services, 300)
    commands: list[Command[Any]] = []
    queries: list[list[int]] = []
    send, find = MemcachedConnection.send, MemberStore.find_members

    def counted(connection: MemcachedConnection, sent: Any) -> Any:
        commands.append(sent)
        return send(connection, sent)

    def names() -> list[str]:
        """Leave out probes, and commands that share the request of another one."""
        sent = [type(command) for command in commands if command.sent_at > float("-inf")]
        return [kind.__name__ for kind in sent if kind is not OneLine]

    async def counted_find(store: MemberStore, member_ids: Sequence[int]) -> Any:
        queries.append([*member_ids])
        return await find(store, member_ids)

    monkeypatch.setattr(MemcachedConnection, "send", counted)
    directory = services.directory
    directory._store._batcher._send = lambda ids: counted_find(directory._store, ids)
    await directory.get_many([*range(1, 201)])
    assert names() == ["Get", "GetEntries", "PutMany", "PutMany"]
    assert queries == [[*range(1, 201)]]
    commands.clear()
    queries.clear()
    await asyncio.gather(
        directory.get(201), directory.get_many([202, 77, 203]), directory.get_many([204, 205])
    )
    assert len(queries) == 1
    assert {*queries[0]} == {201, 202, 203, 204, 205}
    assert names() == ["Get", "PutMany", "PutMany"]


async def compare_random_batches(api: Api, services: Services, count: int, seed: int) -> None:
    """Compare random batches with single reads, while members change and entries disappear."""
    await create(services, 40)
    chance = random.Random(seed)
    cache: Any = services.directory._cache
    for _ in range(count):
        size = chance.choice([1, 2, 3, 10, 45])
        member_ids = [chance.randrange(1, 60) for _ in range(size)]
        if chance.random() < 0.3:
            await cache.invalidate([b"member:%d" % chance.randrange(1, 60) for _ in range(5)])
        if chance.random() < 0.2:
            changed = chance.randrange(1, 41)
            fields = {"name": f"Member {changed}", "phone": f"555 {chance.random():.9f}"}
            await api("PUT", f"/members/{changed}", fields)
        if chance.random() < 0.05:
            await api("DELETE", f"/members/{chance.randrange(1, 41)}")
        answer = await chance.choice([get, look_up])(api, *member_ids)
        unique_ids = [*dict.fromkeys(member_ids)]
        singles = {member_id: await api("GET", f"/members/{member_id}") for member_id in unique_ids}
        expected = [
            parsed(singles[member_id]) for member_id in unique_ids if singles[member_id].code == 200
        ]
        missing = [member_id for member_id in unique_ids if singles[member_id].code == 404]
        body = {"items": expected, "missing": missing, "next": None}
        assert parsed(answer) == body, (member_ids, status_of(answer))


async def test_random_batches_equal_single_reads(api: Api, services: Services) -> None:
    await compare_random_batches(api, services, 25, seed=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(2, 202))
async def test_ten_thousand_random_batches_equal_single_reads(
    api: Api, services: Services, seed: int
) -> None:
    await compare_random_batches(api, services, 50, seed)
