"""Text in cells that no spreadsheet takes for a formula, and back again.

A spreadsheet executes a cell that begins with = + - @ or a control character, also behind white
space and quotes (OWASP, CSV Injection). One whose separator is a semicolon or a bar begins a new
cell behind each. Such a place gets an apostrophe. It gets one more if it has some already, so that
what has been marked is known, and comes back as it was.
"""

import re
from typing import Final

# The last four are the full-width forms of the others, which some programs take for them.
_TRIGGERS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_LEAD: Final = "['\"\\s\ufeff\u200b]*"
# An apostrophe before any of these places makes it another one of them: so it can be undone.
_DANGER: Final = re.compile(
    rf"(?:^(?={_LEAD}[{_TRIGGERS}\t\r\n])|(?<=[;|])(?={_LEAD}[{_TRIGGERS}]))"
)
_MARKED: Final = re.compile(
    rf"(?:^'(?={_LEAD}[{_TRIGGERS}\t\r\n])|(?<=[;|])'(?={_LEAD}[{_TRIGGERS}]))"
)
# Most cells are harmless, and this is found out faster.
_SUSPICIOUS: Final = re.compile(f"[{_TRIGGERS}\t\r\n]")


def defuse(text: str) -> str:
    """A cell's text, harmless."""
    return _DANGER.sub("'", text) if _SUSPICIOUS.search(text) else text


def restore(cell: str) -> str:
    """The text that was made harmless."""
    return _MARKED.sub("", cell) if "'" in cell else cell
