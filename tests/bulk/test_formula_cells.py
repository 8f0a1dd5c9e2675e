"""Cells that a spreadsheet does not execute, and that are restored unchanged."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_members.bulk.formula_cells import defuse, restore

# Characters that may precede the start of a formula in a cell.
LEADS = ["", "'", '"', " ", "\t", "\u00a0", "''", " '\" "]


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\uff1d1", "\uff0b1"]
)
def test_defused_cell_does_not_begin_a_formula(lead: str, text: str) -> None:
    defused = defuse(lead + text)
    assert defused == "'" + lead + text
    assert restore(defused) == lead + text


@pytest.mark.parametrize("separator", [";", "|"])
def test_defused_cell_begins_no_formula_after_another_separator(separator: str) -> None:
    text = f"x{separator}=1+1{separator} -2{separator}y"
    defused = defuse(text)
    assert not any(re.match(r"[\s\"]*[=+@-]", part) for part in defused.split(separator))
    assert restore(defused) == text


@pytest.mark.parametrize("text", ["", "Ada", "O'Brien", "'tis", "a=b", "a-b@example.org", "x; y"])
def test_defuse_keeps_harmless_text(text: str) -> None:
    assert defuse(text) == text
    assert restore(text) == text


def test_telephone_number_is_not_a_formula() -> None:
    """A spreadsheet would compute -653 from the second."""
    assert defuse("+44 20 7946 0018") == "'+44 20 7946 0018"
    assert defuse("+1-555-0100") == "'+1-555-0100"


@given(st.text(alphabet="'=+-@\t\r\n;|\" xa,\uff1d\u200b", max_size=12))
def test_defused_text_is_restored(text: str) -> None:
    assert restore(defuse(text)) == text
    assert restore(defuse(defuse(text))) == defuse(text)
