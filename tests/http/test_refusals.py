"""Every refusal of the HTTP server has a problem."""

import json
import logging
from http import HTTPStatus

import pytest

from tornado_members.http.refusals import render_refusal
from tornado_members.http1.refusals import BodyOverLimit, Refused, TooManyBodies


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad-request"),
        (408, "request-too-slow"),
        (414, "target-too-long"),
        (431, "headers-too-large"),
        (505, "version-not-supported"),
    ],
)
def test_refusal_has_the_problem_of_its_status(status: int, code: str) -> None:
    headers, body = render_refusal(Refused(HTTPStatus(status), "Because."), "192.0.2.1")
    problem = json.loads(body)
    assert (problem["status"], problem["code"], problem["detail"]) == (status, code, "Because.")
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Request-Id"] == problem["requestId"]


def test_refusal_for_lack_of_memory_has_retry_after() -> None:
    headers, body = render_refusal(TooManyBodies(), "192.0.2.1")
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (503, "overloaded")
    assert headers["Retry-After"] == "1"


def test_refusal_of_a_body_names_the_limit() -> None:
    _, body = render_refusal(BodyOverLimit(1000), "192.0.2.1")
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (413, "body-too-large")
    assert "1000 bytes" in problem["detail"]


@pytest.mark.parametrize(
    ("peer", "address"),
    [("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("0.0.0.0", "unix")],
)
def test_log_has_the_address_of_the_peer(
    peer: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        headers, _ = render_refusal(Refused(HTTPStatus.BAD_REQUEST, "Because."), peer)
    (record,) = caplog.records
    assert vars(record)["fields"] == {
        "request_id": headers["X-Request-Id"],
        "code": "bad-request",
        "client_address": address,
    }
