"""The fast path answers plain lists as the handler does, and passes all others on."""

import asyncio
import logging
from typing import Any

import pytest

from tests.support.api import Api, parsed, problem
from tests.support.fast_path import Counting, make_counting_app, masked, response_to
from tests.support.wire import AnyServer
from tornado_members.auth.caller import Caller
from tornado_members.errors import ListTooWide
from tornado_members.handlers.member_cache import MemberCacheApplication
from tornado_members.services import Services
from tornado_members.settings import Settings
from tornado_members.storage.list_readiness import Stage

pytestmark = pytest.mark.shared_services


@pytest.fixture
def app(services: Services) -> MemberCacheApplication:
    return make_counting_app(services)


@pytest.fixture
def handlers(app: MemberCacheApplication) -> Counting:
    """The application behind the fast path."""
    assert isinstance(app.application, Counting)
    return app.application


@pytest.fixture
def settings(settings: Settings) -> Settings:
    more = {
        "members": {
            "attributes": {
                "level": {"type": "integer", "indexed": True},
                "notes": {"type": "string"},
            }
        }
    }
    return Settings.model_validate({**settings.model_dump(), **more})


# Targets: the query, further headers, and whether the fast path answers.
TARGETS: list[tuple[str, dict[str, str], bool]] = [
    ("", {}, True),
    ("?", {}, True),
    ("?limit=2", {}, True),
    ("?limit=2&sort=-memberId", {}, True),
    ("?limit=2&sort=name", {}, True),
    ("?sort=-name", {"Accept-Encoding": "gzip"}, True),
    ("?limit=200", {}, True),
    ("?limit=201", {}, False),  # takes turns
    ("?q=lovelace", {}, True),
    ("?q=lovelace+ad&limit=1", {}, True),
    ("?q=nobody", {}, True),
    ("?name=Ada%20Lovelace", {}, True),
    ("?name_prefix=ADA", {}, True),
    ("?email=ADA@example.org&sort=name", {}, True),
    ("?attributes.level=3&limit=1", {}, True),
    ("?bom=true&delimiter=;", {}, True),
    ("?attributes.notes=x", {}, False),
    ("?attributes.level=x", {}, False),
    ("?limit=0", {}, False),
    ("?limit=2&limit=2", {}, False),
    ("?sort=phone", {}, False),
    ("?q=", {}, False),
    ("?name=%FF", {}, False),
    ("?delimiter=x", {}, False),
    ("?after=x", {}, False),
    ("?unknown=1", {}, False),
    ("?memberId=x", {}, False),
    ("?memberId=1&limit=2", {}, False),
    ("/?limit=2", {}, False),
    ("", {"Prefer": "count=exact"}, False),
    ("", {"Accept": "text/csv"}, False),
    ("", {"Accept": "application/json;q=0.5, application/x-ndjson"}, False),
    ("", {"Accept": "application/json, text/csv;q=0.5"}, True),
    ("", {"If-None-Match": "*"}, True),
]


async def test_fast_path_answers_lists_as_the_handler_does(
    api: Api,
    http_server: AnyServer,
    app: MemberCacheApplication,
    handlers: Counting,
    subtests: pytest.Subtests,
) -> None:
    await api.create("Ada Lovelace", email="Ada@Example.org", attributes={"level": 3})
    for name in ("Adam Lovelace", "Émile Ⅻ", 'a "quoted" \\ name', "Zoë"):
        await api.create(name, attributes={"level": 3})
    following = parsed(await api("GET", "/members?limit=2&sort=name"))["next"]
    targets = [*TARGETS, (following.removeprefix("/members"), {}, True)]
    for target, headers, is_fast in targets:
        with subtests.test(target, headers=headers):
            before = handlers.requests
            app.is_enabled = True
            fast = await response_to(http_server, f"/members{target}", headers)
            assert handlers.requests == before + (not is_fast)
            app.is_enabled = False
            slow = await response_to(http_server, f"/members{target}", headers)
            assert masked(fast) == masked(slow)
            assert not is_fast or fast.startswith(b"HTTP/1.1 200 ")


async def test_fast_path_of_lists_requires_the_permission_for_all_members(
    api: Api, services: Services, handlers: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.create("Ada Lovelace")
    before = handlers.requests
    own = Caller("issuer", "ada", frozenset({"members:read:own"}), member_id=1)
    monkeypatch.setattr(services.tokens, "current_caller", lambda _token: own)
    assert (await api("GET", "/members")).code == 200  # the handler verifies the token itself
    assert handlers.requests == before + 1


async def test_fast_path_of_lists_reports_errors_as_the_handler_does(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.create("Ada Lovelace")
    queries: list[object] = []

    async def page(query: Any) -> Any:
        queries.append(query)
        raise ListTooWide

    monkeypatch.setattr(services.directory._store._lists, "page", page)
    problem(await api("GET", "/members?q=ada"), 400, "list-too-wide")
    assert len(queries) == 1  # the handler does not ask again
    assert services.requests.in_flight == 0
    monkeypatch.undo()
    monkeypatch.setattr(services.directory._store._lists._readiness, "stage", Stage.NAMED)
    problem(await api("GET", "/members?q=ada"), 503, "preparing")
    assert (await api("GET", "/members")).code == 200
    assert services.requests.in_flight == 0


@pytest.mark.parametrize("is_shed", [True, False], ids=["shed", "full"])
async def test_fast_path_of_lists_refuses_requests_under_overload(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch, is_shed: bool
) -> None:
    await api.create("Ada Lovelace")
    with monkeypatch.context() as patch:
        if is_shed:
            patch.setattr(services.load_shedder, "refuses", lambda: True)
        else:
            patch.setattr(services.requests, "in_flight", services.most_requests)
        problem(await api("GET", "/members"), 503, "overloaded")
    assert services.requests.in_flight == 0
    assert (await api("GET", "/members")).code == 200


async def test_fast_path_of_lists_ends_late_requests(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.create("Ada Lovelace")
    may_answer, real = asyncio.Event(), services.directory.page_json

    async def page_json(query: Any) -> Any:
        await may_answer.wait()
        return await real(query)

    monkeypatch.setattr(services.directory, "page_json", page_json)
    monkeypatch.setattr(services.deadlines, "_seconds", 0.1)
    problem(await api("GET", "/members"), 503, "response-timeout")
    assert services.requests.in_flight == 1  # its query is not cancelled
    may_answer.set()
    async with asyncio.timeout(5):
        await services.requests.idle.wait()
    monkeypatch.undo()
    assert (await api("GET", "/members")).code == 200


async def test_fast_path_of_lists_counts_and_logs_requests(
    api: Api, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    await api.create("Ada Lovelace")
    await api("GET", "/members")
    caplog.set_level(logging.INFO, "tornado_members.requests")
    remembered = services.tokens.counts.remembered
    before = services.requests.durations["/members", "GET", 200].count
    answer = await api("GET", "/members?limit=1")
    assert services.requests.durations["/members", "GET", 200].count == before + 1
    assert services.tokens.counts.remembered == remembered + 1
    line = [record for record in caplog.records if record.name == "tornado_members.requests"][-1]
    logged = vars(line)["fields"]
    assert logged.pop("seconds") > 0
    assert logged == {
        "request_id": answer.headers["X-Request-Id"],
        "method": "GET",
        "route": "/members",
        "path": "/members",
        "status": 200,
        "subject": "somebody",
    }


class TestRateLimit:
    """Each list is counted once, whether the fast path or the handler answers it."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limit = {"rate_limit": {"requests_per_minute": 5}}
        return Settings.model_validate({**settings.model_dump(), **limit})

    async def test_fast_path_of_lists_counts_each_request_once(
        self, api: Api, http_server: AnyServer, services: Services, handlers: Counting
    ) -> None:
        assert services.rate_limit
        services.rate_limit._clock = lambda: 60.0  # the minute does not end during the test
        await api.create("Ada Lovelace")
        before = handlers.requests
        together = await asyncio.gather(
            *(response_to(http_server, f"/members?limit={i}", {}) for i in range(1, 10))
        )
        assert (
            sorted(response.split(b" ")[1] for response in together) == [b"200"] * 4 + [b"429"] * 5
        )
        assert handlers.requests == before + 5
        problem(await api("GET", "/members"), 429, "too-many-requests")
