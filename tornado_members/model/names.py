"""The rules of names."""

import unicodedata

from tornado_members.model import characters
from tornado_members.model.text import LONGEST_FORM, MAX_CHARACTERS, check_text

# Control characters, line and paragraph separators: a name is one line.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp"})
_DOTS = frozenset({".", ".."})  # segments of a path that have a meaning (RFC 3986 §3.3)

# The same rules for /openapi.json, as a regular expression of ECMA-262, for clients that validate
# before they send. It admits no names that begin with a shapeless letter.
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_EDGE = characters.SPACES + characters.FORMAT
_NOT_INSIDE = _CONTROL + characters.EMBEDDINGS + characters.OVERRIDES
_NO_DOTS = rf"(?![{_EDGE}]*\.{{1,2}}[{_EDGE}]*$)"
_NAME_OR_DOTS = (
    rf"[{_EDGE}]*[^{_EDGE}{_NOT_INSIDE}{characters.SHAPELESS}]"
    rf"(?:[^{_NOT_INSIDE}]{{0,{MAX_CHARACTERS - 2}}}[^{_EDGE}{_NOT_INSIDE}])?[{_EDGE}]*$"
)
NAME_PATTERN = f"^{_NO_DOTS}{_NAME_OR_DOTS}"
# Names of stored members, which earlier versions and other programs may have called "..".
STORED_NAME_PATTERN = f"^{_NAME_OR_DOTS}"
PATH_NAME_PATTERN = rf"^(?!.*[/\\]){_NO_DOTS}{_NAME_OR_DOTS}"


def normalize_name(name: str) -> str:
    """Return the form in which names are compared and stored.

    That is Unicode NFC, without white space and invisible characters at the ends. Text that is too
    long for a name in any form stays as it is: the time to normalize it grows with the square of
    the length of a run of combining marks.
    """
    name = characters.trim(name)
    if name.isascii() or len(name) > LONGEST_FORM:
        return name
    return characters.trim(unicodedata.normalize("NFC", name))


def is_ambiguous_in_paths(name: str) -> bool:
    """True if proxies change a path that ends in this name, percent-encoded or not."""
    return name in _DOTS or "/" in name or "\\" in name


def check_name(name: str) -> str:
    """Return the name in the form in which it is stored. Raises ValueError."""
    name = check_stored_name(name)
    if name in _DOTS:
        raise ValueError(f'is "{name}", which proxies remove from URLs')
    return name


def check_stored_name(name: str) -> str:
    """Return the name in the form in which it is stored. Raises ValueError.

    It may be "." or "..", which earlier versions allowed.
    """
    if name.isascii() and name.isprintable() and 0 < len(plain := name.strip()) <= MAX_CHARACTERS:
        return plain
    original, name = name, check_text(normalize_name(name))
    if not name:
        raise ValueError("has only invisible characters" if original.strip() else "is empty")
    if characters.is_invisible(name):
        raise ValueError("has only invisible characters")
    if misleading := characters.reordering_character(name):
        raise ValueError(
            f"contains {characters.describe(misleading)}, which changes how it is read"
        )
    for character in name:
        if unicodedata.category(character) in _UNPRINTABLE:
            raise ValueError(f"contains the control character U+{ord(character):04X}")
    return name
