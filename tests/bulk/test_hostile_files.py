"""Damaged files, and files that are made to exhaust memory or time."""

import gzip
import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.processor_time import costs_at_most
from tornado_members.bulk import compression, worksheet
from tornado_members.bulk.member_file import read_members
from tornado_members.bulk.options import FileInfo, FileOptions
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.bulk.sources import ByteQueue
from tornado_members.errors import UnreadableFile
from tornado_members.model.member import MemberDraft

FILES = Path(__file__).parent / "files"
_NS = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_SHEETS = f'<workbook {_NS}><sheets><sheet name="Members" sheetId="1"/></sheets></workbook>'


def read(data: bytes, limit: int | None = None) -> list[Row]:
    """Read a file that arrives at once."""
    queue = ByteQueue()
    queue.push(data)
    queue.close()
    found = read_members(queue, FileOptions(), FileInfo(), limit=limit)
    return [row for row in found if row is not None]


def workbook(sheet: str, *, sheets: str = _SHEETS, parts: int = 0) -> bytes:
    """Return a workbook with this part for its only sheet."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", sheets)
        archive.writestr("xl/worksheets/sheet1.xml", sheet)
        for number in range(parts):
            archive.writestr(f"part{number}", "")
    return file.getvalue()


def claiming(file: bytes, size: int) -> bytes:
    """Return a workbook whose directory states this size for the unpacked sheet, in bytes."""
    entry = file.rindex(b"PK\x01\x02")
    return file[: entry + 24] + size.to_bytes(4, "little") + file[entry + 28 :]


_ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><worksheet>&b;</worksheet>'


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gzip.compress(gzip.compress(b"name\nAda\n")), "compressed twice"),
        (lambda: gzip.compress(b"name\nAda\n")[:-3], "not complete"),
        (lambda: gzip.compress(b"name\nAda\n")[:-9] + bytes(9), "damaged"),
        (lambda: claiming(workbook("<worksheet/>"), 2**28 + 1), "unpacks to more than 268,435,456"),
        (lambda: workbook(_ENTITIES), "XML entities"),
        (lambda: workbook("<worksheet/>", sheets="<workbook>" + " " * 2**19), "unpacks to more"),
        (lambda: workbook(f'<worksheet a="{"x" * 2**20}"/>'), "a tag is too long"),
        (lambda: workbook("<a>" * 1000), "damaged"),
        (lambda: claiming(workbook("<worksheet/>"), 2**24 + 1), "more than 200 times"),
        (lambda: workbook('<worksheet><row><c r="a1"/></row></worksheet>'), "no valid reference"),
        (
            lambda: workbook('<worksheet><row><c t="s"><v>9</v></c></row></worksheet>'),
            "a text is missing",
        ),
        (lambda: b'[["name"], ["Ada"]]', "something other than objects"),
        (lambda: b'["Ada"]', "something other than objects"),
        (lambda: workbook("<worksheet/>", parts=3000), "too many parts"),
        (lambda: workbook("<worksheet/>", sheets="<workbook/>"), "no sheet"),
        (lambda: workbook("<worksheet/>")[:-30], "not complete"),
        (lambda: b"PK\x03\x04" + bytes(100), "not complete"),
    ],
)
def test_a_hostile_or_damaged_file_is_refused(make: Callable[[], bytes], words: str) -> None:
    with pytest.raises(UnreadableFile, match=words):
        read(make())


def test_a_sheet_may_not_have_more_rows_than_excel_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worksheet, "_MAX_ROWS", 100)  # reading a million takes seconds
    rows = f"<row>{cell('Name')}</row><row>{cell('Ada')}</row>" + "<row/>" * 98
    assert len(read(workbook(f"<worksheet>{rows}</worksheet>"))) == 1
    with pytest.raises(UnreadableFile, match="more than 100 rows"):
        read(workbook(f"<worksheet>{rows}<row/></worksheet>"))


def test_a_compressed_file_may_not_unpack_to_many_times_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compression, "_ALWAYS_ALLOWED", 2**20)  # reading 64 MiB takes seconds
    assert len(read(gzip.compress(b"name\nAda\n" + b"\n" * 2**19))) == 1
    with pytest.raises(UnreadableFile, match="more than 200 times its size"):
        read(gzip.compress(b"name\nAda\n" + b"\n" * 2**20))


def test_a_compressed_file_may_not_exceed_the_limit_of_the_body() -> None:
    data = gzip.compress(b"name\n" + b"Ada\n" * 10_000)
    assert len(read(data, limit=50_000)) == 10_000
    with pytest.raises(UnreadableFile, match="more than 30,000 bytes"):
        read(data, limit=30_000)


def test_concatenated_gzip_files_are_one_file() -> None:
    assert len(read(gzip.compress(b"name\nAda\n") + gzip.compress(b"Bob\n"))) == 2


@given(
    st.sampled_from(sorted(FILES.iterdir())),
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=3)), max_size=4),
    st.integers(0, 400),
)
@hypothesis.settings(max_examples=100)
def test_damaged_files_are_rows_or_refused(
    file: Path, changes: list[tuple[int, bytes]], length: int
) -> None:
    data = bytearray(file.read_bytes())
    for at, new in changes:
        data[at : at + len(new)] = new
    for content in (bytes(data), bytes(data[:length])):
        with suppress(UnreadableFile):
            assert all(row.line >= 1 for row in read(content, limit=2**20))


def cell(text: str, kind: str = "inlineStr") -> str:
    """Return a cell of a worksheet."""
    tag = "is><t" if kind == "inlineStr" else "v"
    end = "t></is" if kind == "inlineStr" else "v"
    return f'<c t="{kind}"><{tag}>{text}</{end}></c>'


def test_error_of_a_formula_is_not_a_value() -> None:
    rows = [
        [cell("Name"), cell("Email"), cell("Note")],
        [cell("#N/A", "e"), cell("a@example.org")],
        [cell("Ada"), cell("#REF!", "e")],
        [cell("Bob"), cell("b@example.org"), cell("#DIV/0!", "e")],
        [cell("1", "b")],
        [cell("0", "b")],
    ]
    sheet = "".join(f"<row>{''.join(cells)}</row>" for cells in rows)
    rows_read = read(workbook(f"<worksheet>{sheet}</worksheet>"))
    assert [dict(row.unused) for row in rows_read[:3]] == [{}, {"email": ["#REF!"]}, {}]
    found = [row.content for row in rows_read]
    refused = [content.reason for content in found if isinstance(content, Refusal)]
    assert refused == ["has the error '#N/A' as a name"]
    names = [content.name for content in found if isinstance(content, MemberDraft)]
    assert names == ["Ada", "Bob", "TRUE", "FALSE"]


def test_hidden_sheets_are_not_read_by_default() -> None:
    sheets = _SHEETS.replace("<sheet ", '<sheet name="Old" state="veryHidden"/><sheet ')
    file = io.BytesIO(workbook("<worksheet/>", sheets=sheets))
    with zipfile.ZipFile(file, "a") as archive:
        sheet = f"<worksheet><row>{cell('Name')}</row><row>{cell('Ada')}</row></worksheet>"
        archive.writestr("xl/worksheets/sheet2.xml", sheet)
    (row,) = read(file.getvalue())
    assert isinstance(row.content, MemberDraft)


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "quotes": lambda n: b"name\n" + b'"' * n,
    "malformed": lambda n: b"name\n" + b'"a"b"c"' * n,
    "spaces": lambda n: b"name,phone\nA,1" + b" " * n + b"x\n",
    "invisible": lambda n: ("name\nA" + "\u200b" * n + "x\n").encode(),
    "addresses": lambda n: b"name,email\nA," + b"<" * n,
    "formula": lambda n: b"name\n" + b"='\"+" * n,
    "braces": lambda n: b"[" + b"{" * n,
    "scalars": lambda n: b"[{}, " + b"x" * n,
    "strings": lambda n: b"[{}, " + b'"x"' * n,
    "folded": lambda n: b"BEGIN:VCARD\n" + b" a\n" * n,
    "parameters": lambda n: b"BEGIN:VCARD\n" + b"TEL" + b';A="' * n + b":1",
    "attribute": lambda n: workbook(f'<worksheet a="{"x" * n}"/>'),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_with_the_length_of_a_file(name: str) -> None:
    """Four times the length takes at most about eight times the processor time."""

    def reading(data: bytes) -> None:
        with suppress(UnreadableFile):
            read(data)

    long, short = (partial(reading, HOSTILE[name](length)) for length in (60_000, 15_000))
    assert costs_at_most(8, long, short, slack=0.01)


def test_cost_of_empty_rows_does_not_depend_on_the_header() -> None:
    def file(columns: int) -> bytes:
        cell = '<c t="str"><v>{}</v></c>'
        header = cell.format("name") + cell.format("x") * columns
        return workbook(f"<worksheet><row>{header}</row>{'<row/>' * 20_000}</worksheet>")

    wide, narrow = file(900), file(1)
    assert read(wide) == read(narrow) == []
    assert costs_at_most(8, partial(read, wide), partial(read, narrow), slack=0.1)


def test_cost_of_soft_line_breaks_does_not_depend_on_the_first_line() -> None:
    def file(length: int) -> bytes:
        line = b"X;" + b"a" * length + b";ENCODING=QUOTED-PRINTABLE:=\n" + b"=\n" * 15_000
        return b"BEGIN:VCARD\nFN:Ada\n" + line + b"\nEND:VCARD\n"

    long, short = file(30_000), file(10)
    assert read(long)
    assert read(short)
    assert costs_at_most(8, partial(read, long), partial(read, short), slack=0.1)
