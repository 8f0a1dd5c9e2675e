"""The ranges of the index of names in which names with a case-folded prefix are.

Lists are in the order of names as they are written. In this order "MA", "Ma", "mA" and "ma" are far
apart, and most of the collection may be between them.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from itertools import chain, takewhile
from typing import Final

from tornado_members.model.text import case_fold

Range = tuple[str, str | None]  # its first name, and the first name behind it, if any

_DEPTH: Final = 3  # letters of which all spellings are searched: some thirty ranges
_LAST_CHARACTER = "\U0010ffff"
# Higher characters have no other case and no other form (a test checks all of them).
_LAST_WITH_FORMS: Final = 0x1FFFF


def successor(text: str) -> str | None:
    """Return the first string behind all with this prefix, by code point; None if none is."""
    stem = text.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    following = 0xE000 if following == 0xD800 else following  # surrogates are not characters
    return stem[:-1] + chr(following)


def name_ranges(prefix: str) -> list[Range]:
    """Return ranges, in order and apart, with all names that match when they are case-folded.

    The ranges also have other names. Only letters before the first combining mark count, because
    normalization may reorder marks.
    """
    letters = takewhile(lambda c: not unicodedata.combining(c), _decomposed(case_fold(prefix)))
    heads = [("", "".join(letters))]  # the beginning of a name, and the letters that follow
    ends: list[tuple[str, str]] = []
    for _ in range(_DEPTH):
        longer: list[tuple[str, str]] = []
        for head, rest in heads:
            spelled = _spellings(rest[0]) if rest else [("", "")]
            last = [head + form for form, folded in spelled if folded.startswith(rest)]
            ends += _few(last)
            longer += [
                (head + form, rest[len(folded) :])
                for form, folded in spelled
                if folded != rest and rest.startswith(folded)
            ]
        heads = longer
    return _joined([*ends, *((head, head) for head, _ in heads)])


def _few(ends: Sequence[str]) -> list[tuple[str, str]]:
    """Return the ends of ranges. Forms that are not ASCII share one: "a" has sixty of them."""
    plain = [end for end in ends if end.isascii()]
    others = [end for end in ends if not end.isascii()]
    return [*((end, end) for end in plain), *([(min(others), max(others))] if others else [])]


def _joined(ends: Sequence[tuple[str, str]]) -> list[Range]:
    ranges: list[Range] = []
    for first, last in sorted(ends):
        end = successor(last)
        if ranges and (ranges[-1][1] is None or first <= ranges[-1][1]):
            low, high = ranges.pop()
            ranges.append((low, None if high is None or end is None else max(high, end)))
        else:
            ranges.append((first, end))
    return ranges


def prepare() -> None:
    """Build the table of spellings, which takes a tenth of a second once per process."""
    _table()


@lru_cache(32)  # the ranges of one prefix need those of a letter several times
def _spellings(letter: str) -> Sequence[tuple[str, str]]:
    """Return the characters that fold to this letter first, each with all that it folds to."""
    forms = _table().get(letter)
    return [(form, _folded(form)) for form in forms] if forms else [(letter, letter)]


@cache
def _table() -> Mapping[str, str]:
    """Return the spellings of each letter that has another one than itself: few have.

    A text of all spellings takes a tenth of the memory of a list of them.
    """
    table: dict[str, str] = defaultdict(str)
    codes = chain(range(0xD800), range(0xE000, _LAST_WITH_FORMS + 1))
    for form in map(chr, codes):
        folded = _folded(form)
        if folded != form and unicodedata.is_normalized("NFC", form):
            table[folded[0]] += form
    for letter in table:
        if _folded(letter) == letter and unicodedata.is_normalized("NFC", letter):
            table[letter] += letter
    return dict(table)


def _folded(form: str) -> str:
    return _decomposed(form.casefold())


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)
