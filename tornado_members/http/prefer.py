"""The Prefer header (RFC 7240)."""

import re
from collections.abc import Iterable

# Possessive quantifiers (*+) throughout: a malformed value is rejected in linear time.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = r'"(?:[\t !\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t -\x7e\x80-\xff])*+"'
_VALUE = rf"(?:[ \t]*+=[ \t]*+({_WORD}|{_QUOTED})?+)?+"
_PARAMETERS = rf"(?:[ \t]*+;[ \t]*+(?:{_WORD}{_VALUE})?+)*+"
# Elements of a list may be empty (RFC 9110 §5.6.1).
_PREFERENCE = re.compile(rf"[ \t,]*+({_WORD}){_VALUE}{_PARAMETERS}[ \t]*+(?=,|\Z)")


def parse_preferences(lines: Iterable[str]) -> dict[str, str]:
    """Return preferences by lower-case name, with their values; the empty string for no value.

    The first occurrence counts (§2). A malformed line counts up to its first fault: a preference
    never makes a request fail.
    """
    found: dict[str, str] = {}
    for line in lines:
        preference = _PREFERENCE.match(line)
        while preference:
            found.setdefault(preference[1].lower(), _unquoted(preference[2] or ""))
            preference = _PREFERENCE.match(line, preference.end())
    return found


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word
