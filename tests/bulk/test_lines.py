"""Lines and records of text that comes in pieces."""

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from tornado_members.bulk.lines import LineCutter, Records

TEXT = st.text(alphabet='ab,"\r\n;\u2028\x0b', max_size=40)


def cut(text: str, size: int, longest: int | None = None) -> list[str]:
    cutter = LineCutter(longest)
    lines = [
        line
        for start in range(0, len(text), size)
        for line in cutter.cut(text[start : start + size])
    ]
    return lines + cutter.end()


@given(TEXT, st.integers(1, 7))
def test_lines_are_the_same_however_the_text_is_cut(text: str, size: int) -> None:
    assert cut(text, size) == list(io.StringIO(text, newline=""))


@given(TEXT, st.integers(1, 7))
def test_of_a_long_line_no_more_is_kept_than_tells_that_it_is_long(text: str, size: int) -> None:
    for kept, whole in zip(cut(text, size, 5), io.StringIO(text, newline=""), strict=True):
        assert kept == whole[:6]


def records(text: str, size: int, longest: int = 1000) -> list[tuple[int, str, bool]]:
    """Line, text, and whether it could be read."""
    lines = cut(text, size)
    found = Records(",", longest)
    every = []
    for line in lines:
        found.push([line])
        every += list(found.ready())
    every += list(found.ready(ended=True))
    return [(r.line, "".join(r.lines), r.reason is None) for r in every]


@given(TEXT, st.integers(1, 7))
def test_no_line_is_lost_and_each_has_its_number(text: str, size: int) -> None:
    lines = list(io.StringIO(text, newline=""))
    for number, found, _ in records(text, size):
        for line in io.StringIO(found, newline=""):
            assert lines[number - 1] == line
            lines[number - 1] = ""
            number += 1  # noqa: PLW2901
    assert not "".join(lines).strip()


@given(TEXT, st.integers(2, 30))
def test_whole_records_begin_as_early_as_they_can(text: str, longest: int) -> None:
    """Against the plain way: read from each line anew until something can be read."""
    lines = list(io.StringIO(text, newline=""))
    expected: list[tuple[int, str, bool]] = []
    at = 0
    while at < len(lines):
        if lines[at].isspace():
            at += 1
            continue
        count = _whole(lines[at:], longest)
        expected.append((at + 1, "".join(lines[at : at + (count or 1)]), count > 0))
        at += count or 1
    assert records(text, 1000, longest) == expected


def _whole(lines: list[str], longest: int) -> int:
    """How many lines the first record takes; 0 if it cannot be read."""
    for count in range(1, len(lines) + 1):
        text = "".join(lines[:count])
        if len(text) > longest:
            return 0
        try:
            list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            if "unexpected end" not in str(error):
                return 0
        else:
            return count
    return 0


def test_no_text_takes_time_that_grows_with_its_square() -> None:
    """Each line leaves a quote open, whether it begins within one or not."""
    for line in ('a","\n', 'a"",",\n', '"\n', '"a\n', '""","\n'):
        found = Counting(",", 4096)
        found.push([line] * 5000)
        assert len(list(found.ready(ended=True))) > 1000
        assert found.scans <= 2 * 5000 + 2


class Counting(Records):
    """Counts how often a line is looked at."""

    scans = 0

    def _scan(self, line: str, *, within: bool):  # type: ignore[no-untyped-def]
        self.scans += 1
        return super()._scan(line, within=within)
