"""Preferences according to the grammar of RFC 7240 §2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_members.http.prefer import parse_preferences


@pytest.mark.parametrize(
    ("lines", "preferences"),
    [
        ([], {}),
        (["count=exact"], {"count": "exact"}),
        (["COUNT=exact"], {"count": "exact"}),
        (['count="exact"'], {"count": "exact"}),
        (['count="ex\\act"'], {"count": "exact"}),
        (["count = exact ; strict"], {"count": "exact"}),
        (["count\t=\texact;;a=b; c=\"d, count=none\" ;"], {"count": "exact"}),
        ([" , ,respond-async,, wait=10, count=exact,"],
         {"respond-async": "", "wait": "10", "count": "exact"}),
        (["respond-async", "count=exact"], {"respond-async": "", "count": "exact"}),
        (["count=exact, count=none", "count=planned"], {"count": "exact"}),
        (["count, count=exact"], {"count": ""}),
        (['count='], {"count": ""}),
        (['count=""'], {"count": ""}),
        (['a="b, count=exact"'], {"a": "b, count=exact"}),
        (['a="b\\", count=exact"'], {"a": 'b", count=exact'}),
        (["a;count=exact"], {"a": ""}),
        # A malformed preference hides the rest of its line:
        (["a=1, count==exact, b=2"], {"a": "1"}),
        (["count exact"], {}),
        (["count=exact x"], {}),
        (['count="exact'], {}),
        (["@", "count=exact"], {"count": "exact"}),
        (["é=1"], {}),
    ],
)  # fmt: skip
def test_prefer_is_parsed(lines: list[str], preferences: dict[str, str]) -> None:
    assert parse_preferences(lines) == preferences


@given(st.lists(st.text(alphabet=' \t,;="\\abC\x7fé\n', max_size=60)))
def test_prefer_refuses_nothing(lines: list[str]) -> None:
    for name in parse_preferences(lines):
        assert name == name.lower() != ""


@pytest.mark.parametrize(
    "piece", [" ", '"', "\\", '\\"', ";", ", ", 'a="\\",', "; ;", "a=", 'a="" ']
)
def test_prefer_is_parsed_in_linear_time(piece: str) -> None:
    """Neither quadratic nor worse: this would take minutes."""
    parse_preferences(["a=b;" + piece * (500_000 // len(piece)) + "@"])
