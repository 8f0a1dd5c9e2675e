"""Members as lines of JSON, and what else stands there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import make_draft
from tornado_members.bulk.json_rows import JsonRows
from tornado_members.bulk.rows import Refusal


def rows(data: bytes, size: int = 1000, longest: int = 200) -> list[tuple[int, Any]]:
    """Line and content of each row; of a refusal, what is wrong where."""
    source = JsonRows(longest)
    found = []
    for start in range(0, len(data), size):
        source.push(data[start : start + size])
        found += list(source.ready())
    source.close()
    found += list(source.ready())
    return [
        (
            row.line,
            {fault.pointer: fault.detail for fault in row.content.faults}
            if isinstance(row.content, Refusal)
            else row.content,
        )
        for row in found
    ]


ADA = make_draft(name="Ada", email="ada@example.org", phone=None)


@pytest.mark.parametrize(
    "data",
    [
        b'{"name": "Ada", "email": "ada@example.org", "phone": null}',
        b'{"name": "Ada", "email": "ada@example.org", "phone": null}\n',
        b'\xef\xbb\xbf{"name": "Ada", "email": "ada@example.org", "phone": null}\r\n',
        b'{"memberId": 7, "name": "Ada", "email": "ada@example.org", "phone": null}\n',
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_member_a_line(data: bytes, size: int) -> None:
    assert rows(data, size) == [(1, ADA)]


def test_what_a_line_does_not_say_is_not_set() -> None:
    assert rows(b'{"name": "Ada"}')[0][1].given == {"name"}


@pytest.mark.parametrize(
    ("line", "pointers"),
    [
        (b"nonsense", {""}),
        (b"[]", {""}),
        (b'{"name": "Ada", "name": "Bob"}', {""}),
        (b'{"name": "Jos\xe9"}', {""}),
        (b'{"name": "\\ud800"}', {"/name"}),
        (b"{}", {"/name"}),
        (b'{"name": 7, "email": "x", "state": "ak"}', {"/name", "/email", "/state"}),
        (b'{"name": "Ada", "memberId": "7"}', {"/memberId"}),
        (b'{"name": "Ada", "memberId": true}', {"/memberId"}),
        (b'{"name": "Ada", "memberId": 0}', {"/memberId"}),
        (b'{"name": "Ada", "memberId": null}', {"/memberId"}),
        (b"x" * 201, {""}),
        (b'{"name": "' + b"x" * 100_000 + b'"}', {""}),
        (b"[" * 190, {""}),
    ],
)
@pytest.mark.parametrize("size", [3, 100_000])
def test_a_line_that_is_no_member_is_told_and_the_rest_comes(
    line: bytes, pointers: set[str], size: int
) -> None:
    found = rows(b'{"name": "First"}\n\n' + line + b'\n{"name": "Last"}', size)
    assert [line for line, _ in found] == [1, 3, 4]
    assert set(found[1][1]) == pointers
    assert found[2][1].name == "Last"


def test_a_long_line_is_not_kept() -> None:
    source = JsonRows(100)
    for _ in range(1000):
        source.push(b"x" * 1000)
    assert len(source._begun) <= 101


def test_of_many_faults_in_a_line_some_are_told() -> None:
    line = json.dumps({"name": "Ada", **dict.fromkeys(map(str, range(1000)))}).encode()
    assert len(rows(line, longest=10**6)[0][1]) == 20


@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_are_rows_or_refusals(data: bytes, size: int) -> None:
    assert rows(data, size) == rows(data)
