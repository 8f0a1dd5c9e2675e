"""Other people's CSV files."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import make_draft
from tornado_members.bulk.csv_rows import CsvFile
from tornado_members.bulk.rows import Refusal
from tornado_members.errors import UnreadableFile
from tornado_members.model.member import MemberDraft


def rows(content: bytes | str, **options: Any) -> list[tuple[int, Any]]:
    """Line and content of each row; a refusal by its kind."""
    data = content.encode() if isinstance(content, str) else content
    return [
        (row.line, row.content.kind if isinstance(row.content, Refusal) else row.content)
        for row in CsvFile(io.BufferedReader(io.BytesIO(data)), **options)
    ]


ADA = make_draft(name="Ada", email="ada@example.org", phone="555-0100")


@pytest.mark.parametrize(
    "content",
    [
        "name,email,phone\nAda,ada@example.org,555-0100\n",
        "name,email,phone\nAda,ada@example.org,555-0100",
        "name,email,phone\r\nAda,ada@example.org,555-0100\r\n",
        "name,email,phone\rAda,ada@example.org,555-0100\r",
        "\ufeffname,email,phone\nAda,ada@example.org,555-0100\n",
        "name;email;phone\nAda;ada@example.org;555-0100\n",
        "sep=;\r\nname;email;phone\r\nAda;ada@example.org;555-0100\r\n",
        '"sep=,"\nname,email,phone\nAda,ada@example.org,555-0100\n',
        "name\temail\tphone\nAda\tada@example.org\t555-0100\n",
        "name|email|phone\nAda|ada@example.org|555-0100\n",
        'name,email,phone\n"Ada","ada@example.org","555-0100"\n',
        " Name , E-Mail , Phone Number \n Ada , ada@example.org , 555-0100 \n",
        "id,phone,state,NAME,Email Address\n7,555-0100,ak,Ada,ada@example.org\n",
        "\n\nname,email,phone\n\nAda,ada@example.org,555-0100\n,,\n\n",
        "name,email,phone\nAda,ada@example.org,555-0100,,\n",
        "\ufeffname,email,phone\nAda,ada@example.org,555-0100\n".encode("utf-16-le"),
        "\ufeffname,email,phone\nAda,ada@example.org,555-0100\n".encode("utf-16-be"),
    ],
)
def test_the_same_member_however_it_is_written(content: str | bytes) -> None:
    assert [found for _, found in rows(content)] == [ADA]


def test_empty_cells_are_null() -> None:
    assert rows("name,email,phone\nAda,,\nBob, ,\t\n") == [
        (2, make_draft(name="Ada")),
        (3, make_draft(name="Bob")),
    ]


def test_columns_that_are_not_there_are_null() -> None:
    assert rows("name\nAda\n") == [(2, make_draft(name="Ada"))]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Ada", "wrong number of cells"),
        ("Ada,a@b.org,555-0100,extra", "wrong number of cells"),
        (",a@b.org,555-0100", "no name"),
        ("Ada,nobody,", "bad email"),
        ("Ada,,12", "bad phone"),
        ("x" * 256 + ",,", "bad name"),
        ('"a\nb",,', "bad name"),
        ("A\0da,,", "bad name"),
        (b"Jos\xe9,,", "wrong encoding"),
        ('"Ada"x,,', "bad quoting"),
        ("x" * 200_000 + ",,", "bad quoting"),
    ],
)
def test_a_row_that_cannot_be_loaded_is_told_and_the_rest_comes(
    line: str | bytes, kind: str
) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    content = b"name,email,phone\nFirst,,\n" + data + b"\nLast,,\n"
    found = rows(content)
    assert found[0] == (2, make_draft(name="First"))
    assert found[1] == (3, kind)
    assert found[2][1] == make_draft(name="Last")


def test_a_quote_that_is_never_closed_costs_one_row() -> None:
    people = "".join(f"Person {i},,\n" for i in range(500))
    found = rows(f'name,email,phone\nFirst,,\n"Ada,,\n{people}')
    assert found[1] == (3, "bad quoting")
    assert [line for line, _ in found] == list(range(2, 504))
    assert sum(isinstance(content, MemberDraft) for _, content in found) == 501


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    content = 'name,note\n"Ada","two\nlines"\nBob,\n\n"x\n\ny",\nCarl,\n'
    assert [line for line, _ in rows(content)] == [2, 4, 6, 9]


def test_utf_16_that_breaks_off_costs_one_row() -> None:
    content = "\ufeffname\nAda\nBob\n".encode("utf-16-le")
    assert [line for line, _ in rows(content + b"\x41")] == [2, 3, 4]
    assert rows(content[:-4] + b"\x00\xd8\x0a\x00")[-1] == (3, "wrong encoding")


def test_a_header_may_have_a_line_break_in_it() -> None:
    content = 'name,"Phone\n(home)",email\nAda,,ada@example.org\n'
    assert rows(content) == [(3, make_draft(name="Ada", email="ada@example.org"))]


def test_another_encoding_can_be_named() -> None:
    content = "name\nJosé\n".encode("cp1252")
    assert rows(content) == [(2, "wrong encoding")]
    assert rows(content, encoding="cp1252") == [(2, make_draft(name="José"))]


def test_columns_can_be_named() -> None:
    content = "Who,Mail,name\nAda,ada@example.org,not this one\n"
    found = rows(content, columns={"name": "who"})
    assert found == [(2, make_draft(name="Ada", email="ada@example.org"))]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", {}, "empty"),
        (b"\n\n\n", {}, "empty"),
        (b"a,b\n1,2\n", {}, "no column 'name'"),
        (b"name,Name\nx,y\n", {}, "Two columns hold the name"),
        (b"name,email\n", {"columns": {"phone": "Tel."}}, "no column 'Tel.'"),
        (b"\x00\x01\x02\x03", {}, "no column"),
        (b"\xff\xfe", {}, "empty"),
        (b"sep=;\n", {}, "empty"),
        (b"name," + b"x" * 200_000 + b"\n", {}, "The header cannot be read"),
    ],
)
def test_a_file_without_a_header_is_told(
    content: bytes, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnreadableFile, match=words):
        rows(content, **options)


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_refusals(data: bytes) -> None:
    for line, content in rows(b"name,email,phone\n" + data):
        assert line >= 2
        assert content


@given(st.lists(st.text(alphabet='ab,"\n\r;', max_size=12), max_size=8))
def test_no_line_is_lost(lines: list[str]) -> None:
    """Every line that is not blank belongs to a row that comes out."""
    text = "name,x\n" + "\n".join(lines) + "\nLast,\n"
    file = CsvFile(io.BufferedReader(io.BytesIO(text.encode())))
    seen = "".join("".join(row.cells) for row in file)
    for letter in "ab":
        assert seen.count(letter) == text.count(letter) - "name,x\nLast,".count(letter) + (
            "Last".count(letter)
        )
