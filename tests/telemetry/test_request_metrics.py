"""Access-log lines, and the labels of request metrics."""

import logging
from typing import Any

import pytest

from tornado_members.telemetry.access_log import AccessLogRecord, loggable_path
from tornado_members.telemetry.request_metrics import RequestMetrics

BY_NAME = "/members/by-name/{name}"


@pytest.mark.parametrize(
    ("route", "path", "shown"),
    [
        ("/members", "/members", "/members"),
        ("/members/{memberId}", "/members/42", "/members/42"),
        ("/members/{memberId}", "/members/Ada", "/members/..."),
        ("/members/{memberId}", "/members/٤٢", "/members/..."),
        ("/members/{memberId}", "/members/" + "1" * 30, "/members/..."),
        ("/members/{memberId}/history", "/members/7/history", "/members/7/history"),
        (BY_NAME, "/members/by-name/Ada", "/members/by-name/..."),
        (BY_NAME, "/members/by-name/Ada/42", "/members/by-name/..."),
        ("none", "/members/by%2Dname/Ada", "/members/..."),
        ("none", "/favicon.ico", "/favicon.ico"),
        ("none", "/" + "x" * 1000, "/" + "x" * 64),
        ("none", "*", "/"),
    ],
)
def test_loggable_path_hides_names(route: str, path: str, shown: str) -> None:
    assert loggable_path(route, path) == shown


def make_record(**more: Any) -> AccessLogRecord:
    return AccessLogRecord(
        method="GET",
        route="/members/{memberId}",
        path="/members/42",
        status=200,
        seconds=0.25,
        traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
        **more,
    )


def test_record_logs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    RequestMetrics().record(make_record(request_id="r-1", subject="s" * 100, cache="hit"))
    (line,) = caplog.records
    assert line.getMessage() == "GET /members/42 200"
    assert vars(line)["fields"] == {
        "request_id": "r-1",
        "method": "GET",
        "route": "/members/{memberId}",
        "path": "/members/42",
        "status": 200,
        "seconds": 0.25,
        "subject": "s" * 64,
        "cache": "hit",
        "trace_id": "a" * 32,
        "parent_id": "b" * 16,
    }


def test_observe_counts_unknown_methods_as_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    requests = RequestMetrics()
    for number in range(100):
        requests.observe("none", f"METHOD{number}", 405, 0.001)
    requests.observe("none", "GET", 404, 0.001)
    assert {key: times.count for key, times in requests.durations.items()} == {
        ("none", "other", 405): 100,
        ("none", "GET", 404): 1,
    }
