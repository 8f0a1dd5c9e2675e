"""The Content-Type of a request."""

import time

import pytest

from tests.support.api import Api, problem
from tests.support.cases import cases
from tornado_members.http.content_type import MAX_CONTENT_TYPE, parse_content_type

JSON = ("application/json", "utf-8")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("application/json", JSON),
        ("APPLICATION/JSON", JSON),
        (" application/json ", JSON),
        ("application/json;", JSON),
        ("application/json; ;charset=utf-8", JSON),
        ('application/json; charset="UTF-8"', JSON),
        ('application/json; charset="utf\\-8"', JSON),
        ("application/json; profile=x; charset = utf-8", JSON),
        ('text/csv; header="present; charset=latin-1"', ("text/csv", "utf-8")),
        ("text/csv;charset=us-ascii;charset=latin-1", ("text/csv", "us-ascii")),
        ("application/json; charset=latin-1", ("application/json", "latin-1")),
    ],
)
def test_content_type_gives_media_type_and_charset(text: str, parsed: tuple[str, str]) -> None:
    assert parse_content_type(text) == parsed


@cases(
    "text",
    [
        "",
        "json",
        "application/",
        "/json",
        "application/json/x",
        "application/json, text/csv",
        'application/json; charset="utf-8',
        "application/json; charset=utf-8 x",
        "application/json; =x",
        "application/json" + ";" * MAX_CONTENT_TYPE,
    ],
)
async def test_malformed_or_overlong_content_type_is_415(api: Api, text: str) -> None:
    assert parse_content_type(text) is None
    answer = await api("PUT", "/members", {"name": "Ada"}, headers={"Content-Type": text})
    problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize("piece", [";", '"', '\\"', ';a="', ';a="\\"";', "; ", "=", "a=", ";*=''"])
def test_hostile_content_types_take_no_longer_than_ordinary_ones(
    monkeypatch: pytest.MonkeyPatch, piece: str
) -> None:
    """Linear, also without the limit on the length: 16 times the text takes 16 times as long."""
    monkeypatch.setattr("tornado_members.http.content_type.MAX_CONTENT_TYPE", 10**7)

    def seconds(length: int) -> float:
        text = 'application/json; a="' + (piece * length)[:length]
        taken = []
        for _ in range(5):
            began = time.thread_time()
            parse_content_type(text)
            taken.append(time.thread_time() - began)
        return min(taken)

    assert seconds(160_000) < 64 * seconds(10_000) + 0.001
