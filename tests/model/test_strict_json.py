"""JSON that can be read in one way only."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_members.model.strict_json import parse_object


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"a": \xff}', "byte 6"),
        (b'{"a":\n tru}', "line 2, column 2"),
        (b"[]", "not a JSON object"),
        (b"5", "not a JSON object"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": [{"b": 1, "b": 2}]}', "twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": 1' + b"0" * 10_000 + b"}", "10001 digits"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", "nested too deeply"),
    ],
)
def test_parse_object_refuses_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_object(data)


def test_parse_object_accepts_500_levels_and_more_objects() -> None:
    assert parse_object(b'{"a":' + b"[" * 499 + b"]" * 499 + b"}")
    assert len(parse_object(b'{"a": [' + b"{}," * 1000 + b"{}]}")["a"]) == 1001


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_parse_object_reads_what_json_writes(value: dict[str, Any]) -> None:
    assert parse_object(json.dumps(value).encode()) == value


@given(st.binary())
def test_parse_object_returns_an_object_or_raises_value_error(data: bytes) -> None:
    try:
        outcome: Any = parse_object(data)
    except ValueError as error:
        outcome = str(error)
    assert isinstance(outcome, dict) or outcome.startswith(("is ", "has "))
