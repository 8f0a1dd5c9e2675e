"""The parts of header values that several headers share (RFC 9110 §5.6), as regular expressions.

Possessive quantifiers (*+, ++) throughout: a malformed value is rejected in linear time.
"""

import re
from typing import Final

TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # noqa: S105  (a token of §5.6.2, not a secret)
QUOTED_STRING: Final = r'"(?:[\t !\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t -\x7e\x80-\xff])*+"'


def unquote(value: str) -> str:
    """Return the text of a token or a quoted-string."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
