"""Spans of requests: sampling, contents, and that no request waits for a collector."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, token_of
from tests.support.collector import Collector, Span, collecting
from tests.support.service import ROOT, Command
from tests.support.waiting import until
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.settings import Server, Settings, SettingsError, Telemetry
from tornado_members.telemetry import tracing as module
from tornado_members.telemetry.access_log import AccessLogRecord
from tornado_members.telemetry.spans import CompletedOperation, SpanIds
from tornado_members.telemetry.traceparent import TraceContext
from tornado_members.telemetry.tracing import Tracer, open_tracer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
EITHER_WAY = pytest.mark.parametrize(
    ("transport", "driver"), [("tornado", "motor"), ("http1", "pymongo")]
)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds
    with collecting() as collector:
        yield collector


@pytest.fixture
def endpoint(collector: Collector) -> str:
    return collector.url


@pytest.fixture
def settings(settings: Settings, endpoint: str) -> Settings:
    return settings.model_copy(update={"telemetry": Telemetry(otlp_endpoint=endpoint)})


def has_received(collector: Collector, times: int) -> bool:
    return collector.requests >= times


async def spans_of(collector: Collector, name: str) -> list[Span]:
    """Wait for the first span of that name; return it and its descendants."""
    await until(lambda: any(span.name == name for span in collector.spans))
    first = next(span for span in collector.spans if span.name == name)
    return [first, *(s for s in collector.spans if s.parent_id == first.span_id)]


@EITHER_WAY
async def test_request_span_has_the_callers_parent_and_its_operations(
    api: Api, collector: Collector
) -> None:
    await api("PUT", "/members", {"name": "Ada Lovelace"}, headers={"traceparent": SAMPLED})
    request, *operations = await spans_of(collector, "PUT /members")
    assert (request.kind, request.trace_id, request.parent_id) == ("server", TRACE, PARENT)
    assert request.attributes == {
        "http.request.method": "PUT",
        "http.route": "/members",
        "http.response.status_code": 201,
        "url.scheme": "http",
    }
    assert request.resource["service.name"] == "tornado_members"
    assert not request.failed
    assert {span.name for span in operations} == {"Counter.take", "MemberStore.insert"}
    for operation in operations:
        assert (operation.kind, operation.trace_id) == ("client", TRACE)
        assert operation.name == operation.attributes["code.function.name"]
        assert operation.attributes["db.system.name"] == "mongodb"
        assert request.began <= operation.began < operation.ended <= request.ended


async def test_read_span_has_the_cache_status(api: Api, collector: Collector) -> None:
    member_id = (await api.create("Ada"))["memberId"]
    for _ in range(2):
        await api("GET", f"/members/{member_id}")
    name = "GET /members/{memberId}"
    await until(lambda: sum(span.name == name for span in collector.spans) == 2)
    missed, hit = sorted(
        (span for span in collector.spans if span.name == name), key=lambda span: span.began
    )
    assert missed.attributes["tornado_members.cache"] == "fwd=miss; stored"
    assert hit.attributes["tornado_members.cache"] == "hit"
    below = [span.name for span in collector.spans if span.parent_id == missed.span_id]
    assert below == ["MemberStore.find_member"]  # concurrent requests may have shared it
    assert not [span for span in collector.spans if span.parent_id == hit.span_id]
    assert missed.trace_id != hit.trace_id
    assert missed.parent_id == ""


async def test_concurrent_requests_have_their_own_operations(
    api: Api, collector: Collector
) -> None:
    answers = await asyncio.gather(*(api("GET", f"/members/{1000 + i}") for i in range(8)))
    assert {answer.code for answer in answers} == {404}
    name = "GET /members/{memberId}"
    await until(lambda: sum(span.name == name for span in collector.spans) == 8)
    requests = [span for span in collector.spans if span.name == name]
    below = [span.parent_id for span in collector.spans if span.kind == "client"]
    assert sorted(below) == sorted(span.span_id for span in requests)


async def test_spans_have_no_names_paths_or_tokens(api: Api, collector: Collector) -> None:
    await api.create("Ada Lovelace")
    await api("GET", "/members/by-name/Ada%20Lovelace?wrong=Lovelace")
    await api("GET", "/members/by-name/Ada%20Lovelace", headers={"User-Agent": "Lovelace"})
    await api("GET", "/Lovelace", headers={"X-Request-Id": "Lovelace"})
    await until(lambda: sum(span.kind == "server" for span in collector.spans) == 4)
    sent = b"".join(collector.bodies)
    assert b"/members/by-name/{name}" in sent
    assert b"Lovelace" not in sent
    assert token_of(3).encode() not in sent
    requests = [span for span in collector.spans if span.kind == "server"]
    (lost,) = [span for span in requests if "http.route" not in span.attributes]
    assert (lost.name, lost.attributes["http.response.status_code"]) == ("GET", 404)


async def test_request_that_the_caller_does_not_sample_is_not_traced(
    api: Api, collector: Collector
) -> None:
    await api("GET", "/members", headers={"traceparent": UNSAMPLED})
    await api("GET", "/members/7", headers={"traceparent": SAMPLED})
    await spans_of(collector, "GET /members/{memberId}")
    assert {span.name for span in collector.spans if span.kind == "server"} == {
        "GET /members/{memberId}"
    }


async def test_access_log_line_has_the_span_id(
    api: Api, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await api("GET", "/members")
    (span, *_) = await spans_of(collector, "GET /members")
    (line,) = [vars(r)["fields"] for r in caplog.records if r.name.endswith(".requests")]
    assert (line["trace_id"], line["span_id"]) == (span.trace_id, span.span_id)


async def test_failing_collector_is_logged_once_and_so_is_its_recovery(
    api: Api, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    collector.status = 400  # the exporter retries after a 503, for ten seconds
    for number in range(3):
        assert (await api("GET", "/members")).code == 200
        await until(partial(has_received, collector, number + 1))
    collector.status = 200
    await api("GET", "/members/7")
    await spans_of(collector, "GET /members/{memberId}")
    await until(lambda: "again" in caplog.text)
    logged = [r for r in caplog.records if "traces" in r.getMessage()]
    assert [r.levelname for r in logged] == ["WARNING", "INFO"]
    assert "400" in logged[0].getMessage()
    # caplog captures every logger; the service's log has only what reaches the root logger.
    assert not logging.getLogger("opentelemetry").propagate


class Recorded:
    """An exporter that keeps the spans."""

    def __init__(self) -> None:
        self.found: list[tuple[TraceContext | None, list[CompletedOperation]]] = []

    def record(
        self,
        _request: Any,
        parent: TraceContext | None,
        done: list[CompletedOperation],
    ) -> SpanIds:
        self.found.append((parent, done))
        return SpanIds(TRACE, PARENT)

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("traceparent", "ratio", "is_sampled"),
    [
        (None, 1, True),
        (None, 0, False),
        (SAMPLED, 0, True),
        (UNSAMPLED, 1, False),
        (f"00-{TRACE}-{PARENT}-03", 0, True),  # the other flags are undefined
        (f"00-{TRACE}-{'0' * 16}-01", 0, False),  # an invalid traceparent, despite its flag
    ],
)
def test_caller_decides_on_sampling_and_otherwise_the_ratio(
    traceparent: str | None, ratio: float, is_sampled: bool
) -> None:
    assert bool(Tracer(Recorded(), ratio).start(traceparent)) is is_sampled


def test_operations_belong_to_the_last_request_and_are_limited() -> None:
    exporter = Recorded()
    tracer = Tracer(exporter, 1)
    first = tracer.start(None)
    assert first
    for _ in range(1000):
        tracer.add_operation("MemberStore.find_member", 0.001)
    first.end(AccessLogRecord("GET", "/members", "/members", 200, 0.1))
    tracer.add_operation("MemberStore.find_member", 0.001)  # too late
    assert tracer.start(UNSAMPLED) is None
    tracer.add_operation("MemberStore.find_member", 0.001)  # the current request is not traced
    ((_, done),) = exporter.found
    assert len(done) == module._MAX_OPERATIONS
    assert first.ids == (TRACE, PARENT)


async def test_start_without_opentelemetry_names_the_packages_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "tornado_members.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    telemetry = Telemetry(otlp_endpoint="http://127.0.0.1:4318")
    with pytest.raises(SettingsError, match=r"telemetry\.otlp_endpoint .* pip install .*\[otel\]"):
        async with open_tracer(telemetry, Server()):
            pass


def test_service_without_an_endpoint_does_not_import_opentelemetry(folder: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "import tornado_members.serving.supervisor\n"
        "from tornado_members.settings import Server, Telemetry\n"
        "from tornado_members.telemetry.tracing import open_tracer\n"
        "async def main():\n"
        "    async with open_tracer(Telemetry(), Server()) as tracer:\n"
        "        assert tracer is None\n"
        "asyncio.run(main())\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, cwd=folder, env={"PYTHONPATH": str(ROOT)})


@pytest.fixture
def command(folder: Path, servers: PrivateServers, database_name: str) -> Command:
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    cache = {"servers": servers.cache_servers}
    return Command(folder, {"mongodb": mongodb, "cache": cache, "log": {"format": "json"}})


def get_status(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return int(answer.status)


def with_endpoint(command: Command, url: str) -> Command:
    settings = json.loads(command.config.read_text())
    settings["telemetry"] = {"otlp_endpoint": url}
    command.config.write_text(json.dumps(settings))
    return command


def test_worker_exports_its_spans_before_it_ends(command: Command) -> None:
    with collecting() as collector:
        with with_endpoint(command, collector.url).serving() as service:
            assert get_status(f"{service.url}/openapi.json") == 200
            assert service.stop() == 0
        assert [span.name for span in collector.spans] == ["GET /openapi.json"]
        assert str(service.process.pid) not in collector.spans[0].resource["service.instance.id"]


def test_hanging_collector_delays_neither_requests_nor_the_end(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "30")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with with_endpoint(command, url).serving() as service:
            for _ in range(100):  # more than the queue of the exporter holds
                assert get_status(f"{service.url}/openapi.json") == 200
            assert service.stop() == 0
    assert "did not end in time" not in command.log()
    assert "opentelemetry" not in command.log()
