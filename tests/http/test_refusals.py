"""Every refusal of the HTTP server has a problem."""

import json
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
    headers, body = render_refusal(Refused(HTTPStatus(status), "Because."))
    problem = json.loads(body)
    assert (problem["status"], problem["code"], problem["detail"]) == (status, code, "Because.")
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Request-Id"] == problem["requestId"]


def test_refusal_for_lack_of_memory_has_retry_after() -> None:
    headers, body = render_refusal(TooManyBodies())
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (503, "overloaded")
    assert headers["Retry-After"] == "1"


def test_refusal_of_a_body_names_the_limit() -> None:
    _, body = render_refusal(BodyOverLimit(1000))
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (413, "body-too-large")
    assert "1000 bytes" in problem["detail"]
