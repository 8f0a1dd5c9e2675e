"""Characters that are invisible or are easily confused with others.

Text that is copied from web pages, phones and spreadsheets carries invisible format characters
(Unicode category Cf), no-break spaces and typographic hyphens. The rules of a member remove those
without a meaning, and refuse misleading ones (Unicode Technical Report #36, §2).
"""

import re
import unicodedata
from typing import Final

# The contents of character classes, both for Python and for ECMA-262.
SPACES: Final = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# These reorder text, so that a name or a number reads as another one. At its end, they do not.
OVERRIDES: Final = r"\u202d\u202e"
EMBEDDINGS: Final = r"\u202a-\u202c\u2066-\u2069"
# These include the zero-width joiners, which have a meaning only inside a word.
FORMAT: Final = r"\xad\u061c\u180e\u200b-\u200f\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"
# Letters and marks without a shape: fillers, variation selectors, the blank of Braille.
SHAPELESS: Final = r"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0"
TYPOGRAPHIC_HYPHENS: Final = r"\u2010-\u2015\u2212\ufe58\ufe63\uff0d"
TYPOGRAPHIC_SPACES: Final = r"\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"

_BASIC_PLANE: Final = "".join(map(chr, range(0x10000)))
# For str.strip(), whose time is linear; that of an expression such as `[...]+$` is not.
_EDGES: Final = "".join(re.findall(f"[{SPACES}{FORMAT}{EMBEDDINGS}]", _BASIC_PLANE))
_EDGES_AND_OVERRIDES: Final = _EDGES + "".join(re.findall(f"[{OVERRIDES}]", _BASIC_PLANE))
_MAX_SEARCHED: Final = 4096  # characters; longer text is too long for any field
_BYTE_ORDER_MARK: Final = "\ufeff"  # it has no meaning anywhere
# These have no meaning beside a space. Each run of them is scanned once, so the time is linear.
_BREAK: Final = r"[\xad\u200b\u2060]"
_MEANINGLESS: Final = re.compile(rf"(?<!{_BREAK}){_BREAK}++(?=\s)|(?<=\s){_BREAK}++")
_REORDERING: Final = re.compile(f"[{OVERRIDES}{EMBEDDINGS}]")
_HYPHEN: Final = re.compile(f"[{TYPOGRAPHIC_HYPHENS}]")
_SPACE: Final = re.compile(f"[{TYPOGRAPHIC_SPACES}]")
_INVISIBLE: Final = re.compile(f"[{SPACES}{FORMAT}{EMBEDDINGS}{OVERRIDES}{SHAPELESS}]*")
_ODD: Final = re.compile(f"[{FORMAT}{EMBEDDINGS}{OVERRIDES}{SHAPELESS}]")


def trim(text: str) -> str:
    """Remove white space and invisible characters from both ends, and meaningless ones inside.

    Joiners inside a word stay: Persian words and emoji need them. So do bidirectional overrides,
    which the rules refuse. The time is linear in the length of the text.
    """
    if text.isascii():
        return text.strip()
    text = text.strip(_EDGES)
    if len(text) > _MAX_SEARCHED:
        return text
    return _MEANINGLESS.sub("", text.replace(_BYTE_ORDER_MARK, "")).strip(_EDGES)


def trim_with_overrides(text: str) -> str:
    """Remove white space, invisible characters and bidirectional overrides from both ends."""
    return text.strip() if text.isascii() else text.strip(_EDGES_AND_OVERRIDES)


def plain_punctuation(text: str) -> str:
    """Replace typographic hyphens and spaces by those of ASCII."""
    return text if text.isascii() else _SPACE.sub(" ", _HYPHEN.sub("-", text))


def is_invisible(text: str) -> bool:
    """True if no character of the text has a shape."""
    return _INVISIBLE.fullmatch(text) is not None


def reordering_character(text: str) -> str | None:
    """Return the first character that changes the order in which the text is displayed."""
    found = None if text.isascii() else _REORDERING.search(text)
    return found[0] if found else None


def invisible_character(text: str) -> str | None:
    """Return the first character that has no shape and is not white space."""
    found = None if text.isascii() else _ODD.search(text)
    return found[0] if found else None


def describe(character: str) -> str:
    """Return the code point and the name of a character: "U+202D LEFT-TO-RIGHT OVERRIDE"."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
