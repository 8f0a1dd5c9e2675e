"""CSV files of other programs."""

import re
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.members import make_draft
from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.errors import UnreadableFile


def read(content: bytes | str, size: int = 10**9, **options: Any) -> Iterator[Row]:
    """Yield the rows of a file that arrives in pieces of this size."""
    data = content.encode() if isinstance(content, str) else content
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    found = read_members(pieces, FileOptions(**options), FileInfo())
    return (row for row in found if row is not None)


def rows(content: bytes | str, **options: Any) -> list[tuple[int, Any]]:
    """Return the line and content of each row; a refusal by its kind."""
    return [
        (row.line, row.content.kind if isinstance(row.content, Refusal) else row.content)
        for row in read(content, **options)
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
def test_formats_of_one_member_yield_the_same_member(content: str | bytes) -> None:
    assert [found for _, found in rows(content)] == [ADA]


def test_empty_cells_are_null() -> None:
    assert rows("name,email,phone\nAda,,\nBob, ,\t\n") == [
        (2, make_draft(name="Ada")),
        (3, make_draft(name="Bob")),
    ]


def test_missing_columns_are_null() -> None:
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
        ("x" * 200_000 + ",,", "too long"),
    ],
)
def test_invalid_row_is_refused_and_the_rest_is_read(line: str | bytes, kind: str) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    content = b"name,email,phone\nFirst,,\n" + data + b"\nLast,,\n"
    found = rows(content)
    assert found[0] == (2, make_draft(name="First"))
    assert found[1] == (3, kind)
    assert found[2][1] == make_draft(name="Last")


def test_no_member_is_made_from_inside_quotes() -> None:
    people = "".join(f"Person {i},,\n" for i in range(500))
    found = rows(f'name,email,phone\nFirst,,\n"Ada,,\n{people}')
    assert found == [(2, make_draft(name="First", email=None, phone=None)), (3, "bad quoting")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The quote of line 2 was never closed; the next one opens a cell.
        ('"Ada,x\nBob,x\n"Carl","y\nDora,x\n"\nEve,x\n', {2: None, 7: "Eve"}),
        # The number of quotes is odd in line 2, and so in line 4.
        ('"{"a":"b",\nDora,x\n"c":"d"}",x\nEve,x\n', {2: None, 5: "Eve"}),
        ('"Ada"lyn,x\nEve,x\n', {2: None, 3: "Eve"}),
        (
            'Ada "The Countess" L,x\n5" pipe,x\nEve,x\n',
            {2: 'Ada "The Countess" L', 3: '5" pipe', 4: "Eve"},
        ),
        ('"Ada" , "x"\nEve,x\n', {2: "Ada", 3: "Eve"}),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_quotes_in_wrong_places_make_no_member(
    text: str, expected: dict[int, str | None], size: int
) -> None:
    found = {
        row.line: None if isinstance(row.content, Refusal) else row.content.name
        for row in read("name,note\n" + text, size)
    }
    assert found == expected


@pytest.mark.parametrize("length", [70_000, 200_000])
@pytest.mark.parametrize("size", [5000, 100_000])
def test_a_long_quoted_cell_is_skipped(length: int, size: int) -> None:
    note = "Hello,\n" * (length // 7)
    found = list(read(f'name,note\nEmma,"{note}"\nLast,x\n', size))
    assert [row.content.name for row in found] == ["Emma", "Last"]  # type: ignore[union-attr]
    assert found[1].line == 3 + length // 7


def test_a_record_over_the_limit_is_refused_up_to_its_closing_quote() -> None:
    note = "Hello,x\n" * (2**21 + 1)  # 16 MiB
    assert rows(f'name,note\nEmma,"{note}"\nLast,x\n', size=65536) == [
        (2, "bad quoting"),
        (2**21 + 4, make_draft(name="Last")),
    ]


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    content = 'name,note\n"Ada","two\nlines"\nBob,\n\n"x\n\ny",\nCarl,\n'
    assert [line for line, _ in rows(content)] == [2, 4, 6, 9]


def test_truncated_utf_16_costs_one_row() -> None:
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
    found = rows(content, columns=[("name", "who")])
    assert found == [(2, make_draft(name="Ada", email="ada@example.org"))]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", {}, "empty"),
        (b"\n\n\n", {}, "empty"),
        (b"a,b\n1,2\n", {}, "(?i)no column holds the name: line 1 has 'a', 'b'"),
        (b"name,Name\nx,y\n", {}, "Columns 1 and 2 both hold the name .*name=#1"),
        (b"name,email\n", {"columns": [("phone", "Tel.")]}, "no column 'Tel.'"),
        (b"name,email\n", {"columns": [("phone", "#3")]}, "Column #3 does not exist"),
        (b"a,a\n", {"columns": [("name", "a")]}, "(?i)columns 1 and 2 are both headed 'a'.*#1"),
        (b"a,Mail,Mail\n", {}, "Columns 2 and 3 both hold the email.*; no column holds the name"),
        (b"\x00\x01\x02\x03", {}, "(?i)no column"),
        (b"\xff\xfe", {}, "empty"),
        (b"sep=;\n", {}, "empty"),
        (b"name," * 1001 + b"\n", {}, "more than 1,000 cells"),
        (b"x" * 400_000, {}, "No header was found"),
        ("Vorname;Straße;Größe\n".encode("cp1252"), {}, "not UTF-8 .near 'Vorname;Stra.xdfe;Gr"),
        (b"name,stra\xdfe\n", {}, "Line 1 has bytes that are not UTF-8"),
        (b"%PDF-1.7", {}, "a PDF document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1xx", {}, "an old Excel file"),
        (b"<html><body><table>", {}, "a web page: save it as"),
        (b"name,x\n", {"strict": True}, "Not fields of a member: 'x'"),
        (b"Club\nname,x\n", {"header_line": 1}, "line 1 has 'Club'"),
    ],
)
def test_a_file_without_a_header_is_refused(
    content: bytes, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnreadableFile, match=words):
        rows(content, **options)


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_are_rows_or_refusals(data: bytes, size: int) -> None:
    content = b"name,email,phone\n" + data
    found = rows(content)
    assert found == rows(content, size=size)
    assert all(line >= 2 and content for line, content in found)


def inside_quotes(text: str) -> set[int]:
    """Return the lines that begin within quotes, by counting quotes."""
    lines = text.split("\n")
    counts = [line.count('"') for line in lines]
    return {i + 1 for i in range(len(lines)) if sum(counts[:i]) % 2}


@given(
    st.lists(st.sampled_from(["Ada", '"', '""', ",", ";", "x", " ", '"Bob"', "\n"]), max_size=30)
)
@hypothesis.settings(max_examples=300)
def test_no_row_begins_within_quotes(pieces: list[str]) -> None:
    """In text whose cells are quoted as a whole or not at all."""
    text = "name,x\n" + "".join(pieces)
    if re.search(r'[^,\n"]"|"[^,\n"]', text):
        return  # quotes in wrong places: see above
    hidden = inside_quotes(text)
    assert not [row.line for row in read(text) if row.line in hidden]


@given(st.text("ab, \n\t\x1a\r\xa0", max_size=40))
def test_lines_are_read_alike_with_and_without_quotes_after_them(text: str) -> None:
    """The parser divides a piece without quotes in another way than one that has them."""
    header = "name,email,phone\n"
    found = [(row.line, row.cells) for row in read(f"{header}{text}\nEve,,555-0100")]
    quoted = [(row.line, row.cells) for row in read(f'{header}{text}\n"Eve",,555-0100')]
    assert found == quoted


def test_headers_of_joined_files_are_not_members() -> None:
    found = rows("\ufeff\ufeffname\nAda\n\ufeffname\nBob\n\ufeffEve\n")
    assert [content.name for _, content in found] == ["Ada", "Bob", "Eve"]


def test_delimiter_is_not_the_comma_in_the_heading_of_a_name() -> None:
    ((line, draft),) = rows("Name, Vorname;E-Mail;Telefon\nLee, Ada;ada@example.org;555-0100\n")
    assert (line, draft) == (
        2,
        make_draft(name="Lee, Ada", email=ADA.values["email"], phone="555-0100"),
    )


PEOPLE = "name,email,phone,city\nAda,ada@example.org,,\nBob,,,\n"


@pytest.mark.parametrize(
    "line",
    [
        "Total members: 12",
        "Total members: 12,,,",
        "TOTAL,12",
        "Total,,12",
        "Total,,,12 members",
        "Grand total,,,12",
        "Total active members: 12,,,",
        "Total of row 7: 1'234",
        "Sum: 12",
        "Subtotal (2)",
        "Count: 2,,,as of 2026-11-27",
        "Members: 12",
        "Number of members: 12",
        "Summe,,,2",
        "Anzahl Mitglieder: 2",
        "Gesamt: 2 Mitglieder",
        "Nombre total de membres: 2",
        "Total de miembros: 2",
    ],
)
@pytest.mark.parametrize("after", ["", "Zoe,zoe@example.org,,\n"])
def test_totals_are_refused_wherever_they_are(line: str, after: str) -> None:
    width = line.count(",")
    content = f"{PEOPLE}{line}{',' * (3 - width)}\n{after}"
    found = rows(content)
    assert [kind for _, kind in found if isinstance(kind, str)] == ["suspicious"]
    assert len(found) == 3 + bool(after)
    assert not [kind for _, kind in rows(content, take_suspicious=True) if kind == "suspicious"]


@pytest.mark.parametrize(
    "line",
    [
        "Total,total@example.org,,",
        "Total,,555-0100-22,",
        "Total 1,,+44 20 7946 0958,",
        "Total Fitness 24,,,",
        "Total Wine & More,,,",
        "Sum Wong,,,",
        "Sum Wong,,,12 Main Street",
        "Count Dracula 1,,,",
        "Count,,,London",
        "Members Only 4,,,",
        "Member 12,,,",
        "User 5,,,",
        "Customer 3: 4,,,",
        "Tota Lee,,,12",
        "No,,,12",
        "Noah 5,,,",
        "Summer 69,,,",
    ],
)
def test_people_and_companies_are_not_totals(line: str) -> None:
    assert not [kind for _, kind in rows(f"{PEOPLE}{line}\n") if isinstance(kind, str)]
