"""Where in the order of names those are found that begin so when they are folded.

The order of a list is that of names as they are written, in which "MA", "Ma", "mA" and "ma" lie far
apart, and what lies between them may be most of the collection.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain, takewhile
from typing import Final

from tornado_members.model.text import case_fold

Range = tuple[str, str | None]  # from here on, up to there; None has no end

_DEPTH: Final = 3  # letters of which each spelling is looked for, which makes some thirty ranges
_LAST_CHARACTER = "\U0010ffff"
# Above it no character has another case or another form (a test looks at all of them).
_LAST_WITH_FORMS: Final = 0x1FFFF


def successor(text: str) -> str | None:
    """The first string behind all that begin so, by code point, as MongoDB has it; None if none."""
    stem = text.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    following = 0xE000 if following == 0xD800 else following  # surrogates are no characters
    return stem[:-1] + chr(following)


def name_ranges(prefix: str) -> list[Range]:
    """Ranges in order, none of which touches another, with every name whose folding begins so.

    They hold other names as well. Only letters before the first combining mark are looked at: marks
    change places in normalizing, and letters do not.
    """
    letters = takewhile(lambda c: not unicodedata.combining(c), _decomposed(case_fold(prefix)))
    heads = [("", "".join(letters))]  # what a name begins with, and the letters that are to come
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
    """First and last of what can be taken together: there are sixty kinds of the letter a."""
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


def _spellings(letter: str) -> Sequence[tuple[str, str]]:
    """What begins with a letter when it is folded and decomposed, and all that it becomes."""
    return _table().get(letter, [(letter, letter)])


@cache
def _table() -> Mapping[str, Sequence[tuple[str, str]]]:
    table: dict[str, list[tuple[str, str]]] = defaultdict(list)
    codes = chain(range(0xD800), range(0xE000, _LAST_WITH_FORMS + 1))
    for form in map(chr, codes):
        if unicodedata.is_normalized("NFC", form):
            folded = _decomposed(form.casefold())
            table[folded[0]].append((form, folded))
    return dict(table)


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)
