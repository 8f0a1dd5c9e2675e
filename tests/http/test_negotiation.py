"""Content negotiation, and the 406 where it fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.api import Api, problem
from tornado_members.http.negotiation import accepts

JSON = "application/json"


@pytest.mark.parametrize(
    ("header", "is_accepted"),
    [
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("APPLICATION/JSON; charset=utf-8", True),
        ("application/*;q=0.1", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),  # a browser
        ("text/html", False),
        ("text/html, application/xml", False),
        ("application/json;q=0", False),
        ("application/json;q=0, */*", False),  # the most specific range counts
        ("*/*;q=0, application/json", True),
        ("application/*;q=0, */*;q=1", False),
        ("application/json;q=0.000", False),
        ("application/json;q=0.001", True),
        ("application/problem+json", False),
        (" , text/html , ", False),
        ("json", True),  # invalid
        ("text", True),
        ('application/json;profile="a,b"', True),
        ("*", True),  # sent by old clients
    ],
)
def test_accept_admits_json(header: str, is_accepted: bool) -> None:
    assert accepts(header, JSON) is is_accepted


@given(st.text())
def test_accepts_returns_for_any_header(header: str) -> None:
    assert accepts(header, JSON) in (True, False)


async def test_unacceptable_request_is_406_and_changes_nothing(api: Api) -> None:
    headers = {"Accept": "text/html"}
    for method, path in (("GET", "/members"), ("HEAD", "/members"), ("GET", "/members/1")):
        answer = await api(method, path, headers=headers)
        assert answer.code == 406
        assert answer.headers["Content-Type"] == "application/problem+json"
    found = problem(
        await api("PUT", "/members", {"name": "Ada"}, headers=headers), 406, "not-acceptable"
    )
    assert "application/json" in found["detail"]
    assert (await api("GET", "/members/1")).code == 404
    problem(await api("GET", "/members", rights=None, headers=headers), 401, "token-missing")
