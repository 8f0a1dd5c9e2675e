"""The words by which a search finds members, and the words of a query.

Both are made by the same rules. Case, accents and compatibility forms are removed: "Zoë" and "ZOE"
are the word "zoe". Text is split at everything that is not a letter or a digit.

Chinese, Japanese, Korean and Thai are written without spaces between words or names. Such text is
stored as all its endings, so that the beginning of a stored word is any run of characters.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Final

from tornado_members.model.text import LONGEST_FORM

MAX_QUERY_WORDS: Final = 8
# Characters of an ending. Without a limit, a name of 255 characters would need 100 KB.
_ENDING: Final = 16

_ASCII_WORD: Final = re.compile("[a-z0-9]+")
# Accents of Latin, Greek and Cyrillic, the points of Hebrew and Arabic, and variation selectors.
# Other marks, such as the vowels of Thai and Hindi, count as letters.
_ACCENTS: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
    "\U000e0100-\U000e01ef]+"
)
# Letters that Unicode does not decompose, and that people write without their strokes.
_PLAIN_LETTERS: Final = str.maketrans("øđðħ\u0131łŧŋ", "oddhiltn") | str.maketrans(
    {"æ": "ae", "œ": "oe", "þ": "th"}
)
# Thai, Lao, Myanmar, Hangul, Khmer, kana, bopomofo and Han.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029"
    "\u3041-\u30ff\u3105-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_UNSPACED_RUN: Final = re.compile(f"[{_UNSPACED}]+")


def search_words(texts: Iterable[str]) -> list[str]:
    """Return the words to store of a member with these texts, each once."""
    texts = list(texts)
    joined = "\n".join(texts)
    if joined.isascii():
        return list(dict.fromkeys(_words(joined)))
    return list(dict.fromkeys(chain.from_iterable(map(_stored, texts))))


def query_words(query: str) -> list[str]:
    """Return the words of a query, the longest first. Raises ValueError.

    A word that another one begins with is left out, because every match of the other one has it.
    """
    words = [piece for word in _words(query) for piece in _pieces(word)]
    if not words:
        raise ValueError("has no letter and no digit")
    if len(words) > MAX_QUERY_WORDS:
        raise ValueError(f"has {len(words)} words; at most {MAX_QUERY_WORDS} are allowed")
    found: list[str] = []
    for word in sorted(words, key=len, reverse=True):
        if not any(longer.startswith(word) for longer in found):
            found.append(word)
    return found


def _stored(text: str) -> Iterator[str]:
    for word in _words(text):
        if _UNSPACED_RUN.fullmatch(word):
            yield from (
                word[start : start + _ENDING]
                for start, character in enumerate(word)
                if not _is_mark(character)
            )
        else:
            yield word


def _pieces(word: str) -> list[str]:
    """Return parts of a word that are not longer than a stored ending."""
    if len(word) <= _ENDING or not _UNSPACED_RUN.fullmatch(word):
        return [word]
    starts = [*range(0, len(word) - _ENDING, _ENDING), len(word) - _ENDING]
    return [word[start : start + _ENDING] for start in starts]


def _words(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    kept = "".join(map(_kept, _folded(text)))
    return [run for word in kept.split() for run in _RUN.findall(word)]


def _folded(text: str) -> str:
    if len(text) > LONGEST_FORM:  # normalizing may take time that grows with its square
        return text.casefold()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", folded).translate(_PLAIN_LETTERS))


@lru_cache(4096)
def _kept(character: str) -> str:
    """Return a character of a word, a space for a separator, or nothing for a removed mark."""
    if character.isalnum() or _is_mark(character):
        return character
    return "" if unicodedata.category(character) == "Cf" else " "


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"
