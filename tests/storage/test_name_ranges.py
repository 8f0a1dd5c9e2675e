"""Every name that a prefix matches lies in one of its ranges."""

import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tornado_members.model.names import normalize_name
from tornado_members.model.text import case_fold
from tornado_members.storage import name_ranges as module
from tornado_members.storage.name_ranges import name_ranges, successor


@pytest.fixture
def driver() -> str:
    """These tests need no database."""
    return "motor"


TRICKY = "aAàÀsSßẞfFﬁﬃﬀiIİhHẖkKnŉjǰ가각한ά\u0345\u0301\u0323\u0331\u030c\u0307ΐΣςǅ😀"
TRICKY += "\u017f\u0131\u03c3\ud7ff\ue000\U0010ffff"
TEXTS = st.text(st.sampled_from(TRICKY) | st.characters(exclude_categories=["Cs"]), max_size=6)


def is_in(name: str, prefix: str) -> bool:
    return any(low <= name and (high is None or name < high) for low, high in name_ranges(prefix))


@settings(max_examples=150)
@given(TEXTS, st.integers(0, 6))
@example("H\u0331x", 1)  # only its small letter has a composed form
@example("ΐ", 1)
@example("\u1fb7x", 1)
def test_name_ranges_contain_the_name_for_each_folded_prefix(text: str, length: int) -> None:
    name = normalize_name(text)
    beginning = case_fold(name)[:length]
    # Also as a caller may write it: in capitals, decomposed.
    for prefix in (beginning, beginning.upper(), unicodedata.normalize("NFD", beginning), name):
        if prefix and case_fold(name).startswith(case_fold(prefix)):
            assert is_in(name, prefix)


@given(TEXTS)
def test_name_ranges_are_in_order_and_apart(prefix: str) -> None:
    ranges = name_ranges(prefix)
    assert 1 <= len(ranges) <= 100
    for (low, high), (following, _) in pairwise(ranges):
        assert high is not None
        assert low < high < following
    assert all(high is None or low < high for low, high in ranges)


def test_name_ranges_leave_out_names_between() -> None:
    for name in ("Maria", "MARIA", "mARiA", "maría"):
        assert is_in(name, "mar")
    for name in ("MBA", "Mas", "Mz", "N", "Zoë", "ab", "mb", "n"):
        assert not is_in(name, "mar")


@given(st.text(st.sampled_from("az\ud7ff\ue000\U0010ffff"), min_size=1, max_size=4), st.text())
def test_successor_is_the_next_string(text: str, more: str) -> None:
    end = successor(text)
    if end is None:
        assert set(text) == {"\U0010ffff"}
    else:
        assert text + more.encode("utf-8", "replace").decode() < end
        assert not end.startswith(text)
        end.encode()


def test_characters_above_the_table_have_no_other_forms() -> None:
    for code in range(module._LAST_WITH_FORMS + 1, sys.maxunicode + 1):
        form = chr(code)
        if unicodedata.is_normalized("NFC", form):
            assert form.casefold() == form
