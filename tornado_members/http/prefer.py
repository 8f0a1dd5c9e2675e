"""The Prefer header (RFC 7240)."""

import re
from collections.abc import Iterable

from tornado_members.http.field_syntax import QUOTED_STRING, TOKEN, unquote

# Possessive quantifiers (*+) throughout: a malformed value is rejected in linear time.
_VALUE = rf"(?:[ \t]*+=[ \t]*+({TOKEN}|{QUOTED_STRING})?+)?+"
_PARAMETERS = rf"(?:[ \t]*+;[ \t]*+(?:{TOKEN}{_VALUE})?+)*+"
# Elements of a list may be empty (RFC 9110 §5.6.1).
_PREFERENCE = re.compile(rf"[ \t,]*+({TOKEN}){_VALUE}{_PARAMETERS}[ \t]*+(?=,|\Z)")


def parse_preferences(lines: Iterable[str]) -> dict[str, str]:
    """Return preferences by lower-case name, with their values; the empty string for no value.

    Of several values, the first is used (§2). A malformed line is parsed up to its first fault: a
    preference never makes a request fail.
    """
    found: dict[str, str] = {}
    for line in lines:
        preference = _PREFERENCE.match(line)
        while preference:
            found.setdefault(preference[1].lower(), unquote(preference[2] or ""))
            preference = _PREFERENCE.match(line, preference.end())
    return found
