"""Members as JSON objects, and other content of such files."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import make_draft
from tornado_members.bulk.json_rows import LONGEST
from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal
from tornado_members.errors import UnreadableFile


def rows(data: bytes, size: int = 1000, **options: Any) -> list[tuple[int, Any]]:
    """Return the line and content of each row; of a refusal, the faults by pointer."""
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    found = read_members(pieces, FileOptions(default_format="ndjson", **options), FileInfo())
    return [
        (
            row.line,
            {fault.pointer: fault.detail for fault in row.content.faults}
            if isinstance(row.content, Refusal)
            else row.content,
        )
        for row in found
        if row is not None
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
def test_read_ndjson_yields_one_member_per_line(data: bytes, size: int) -> None:
    assert rows(data, size) == [(1, ADA)]


def test_omitted_fields_are_not_set() -> None:
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
        (b'{"name": ""}', {"/name"}),
        (b'{"name": 7, "email": "x", "phone": []}', {"/name", "/email", "/phone"}),
        (b'{"name": "' + b"x" * 100_000 + b'"}', {""}),
        (b"[" * 60_000, {""}),
    ],
)
@pytest.mark.parametrize("size", [3, 100_000])
def test_a_line_that_is_not_a_member_is_refused_and_the_rest_is_read(
    line: bytes, pointers: set[str], size: int
) -> None:
    found = rows(b'{"name": "First"}\n\n' + line + b'\n{"name": "Last"}', size)
    assert [line for line, _ in found] == [1, 3, 4]
    assert set(found[1][1]) == pointers
    assert found[2][1].name == "Last"


def test_unknown_fields_are_ignored_and_named_once_unless_strict() -> None:
    data = b'{"name": "Ada", "state": "ak"}\n{"_id": {"$oid": "6"}, "name": "Bob", "state": "al"}\n'
    info = FileInfo()
    found = [row for row in read_members([data], FileOptions(), info) if row is not None]
    assert [row.content for row in found] == [make_draft(name="Ada"), make_draft(name="Bob")]
    assert info.ignored == ["state", "_id"]
    assert [set(faults) for _, faults in rows(data, strict=True)] == [
        {"/state"},
        {"/_id", "/state"},
    ]
    assert rows(b'{"name": "Ada", "memberId": 0}', strict=True)[0][1].keys() == {"/memberId"}


def test_keys_are_recognised_like_headings() -> None:
    data = b'{"firstName": "Ada", "lastName": "Example", "Email Address": "a@b.org", "phone": ""}'
    assert rows(data) == [(1, make_draft(name="Ada Example", email="a@b.org", phone=None))]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_elements_of_an_array_are_rows(size: int) -> None:
    data = b"""[{"name": "Ada", "note": "]}\\" {[", "more": [{"x": 1}]},
 {
  "name": "Bob"
 } , {"name": 5}, {"name": "x%s"},
 {"name": "Last"}]
""" % (b"x" * LONGEST)
    found = rows(data, size)
    assert [line for line, _ in found] == [1, 2, 4, 4, 5]
    assert found[1][1].name == "Bob"
    assert set(found[2][1]) == {"/name"}
    assert "bytes" in found[3][1][""]
    assert found[4][1].name == "Last"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_elements_that_are_not_objects_and_text_after_an_array_are_refused(size: int) -> None:
    found = rows(
        b'[{"name": "Ada"}, "]Bob\\"", 12,\nnull, [5] ,{"name": "Eve"}] [{"name": "X"}]', size
    )
    assert [line for line, _ in found] == [1, 1, 1, 2, 2, 2, 2]
    assert [found[i][1].name for i in (0, 5)] == ["Ada", "Eve"]
    assert [found[i][1] for i in (1, 2, 3, 4)] == [{"": "is not a JSON object"}] * 4
    assert "after the end of the array" in found[6][1][""]
    assert rows(b'[{"name": "Ada"}]\n \n', size)[1:] == []


def test_an_incomplete_array_is_reported() -> None:
    found = rows(b'[{"name": "Ada"}, {"name": "Bo')
    assert found[0][1].name == "Ada"
    assert found[1][1] == {"": "the array is not complete"}


def test_of_many_faults_in_a_line_some_are_listed() -> None:
    line = json.dumps({"name": "Ada", **dict.fromkeys(map(str, range(1000)))}).encode()
    assert len(rows(line, strict=True)[0][1]) == 20


@given(st.binary(max_size=60), st.integers(1, 9), st.sampled_from([b"", b"[{", b"{"]))
def test_any_bytes_are_rows_or_refusals(data: bytes, size: int, start: bytes) -> None:
    assert outcome(start + data, size) == outcome(start + data, 1000)


def outcome(data: bytes, size: int) -> object:
    try:
        return rows(data, size)
    except UnreadableFile as error:
        return error.reason
