"""Escapes and restores the text of cells that a spreadsheet would execute.

Spreadsheets execute a cell that begins with = + - @ or a control character, also after white space
and quotes (OWASP, CSV Injection). If the separator is a semicolon or a bar, a cell begins after
each of these characters. `defuse` puts an apostrophe before each such place. A place that already
has apostrophes gets one more, so that `restore` returns the original text.
"""

import re
from typing import Final

# The last four are full-width forms, which some programs treat like the others.
_TRIGGERS: Final = "=+\\-@\uff1d\uff0b\uff0d\uff20"
_LEAD: Final = "['\"\\s\ufeff\u200b]*"
# A place still matches with an apostrophe before it, so that `restore` recognises it.
_DANGER: Final = re.compile(
    rf"(?:^(?={_LEAD}[{_TRIGGERS}\t\r\n])|(?<=[;|])(?={_LEAD}[{_TRIGGERS}]))"
)
_MARKED: Final = re.compile(
    rf"(?:^'(?={_LEAD}[{_TRIGGERS}\t\r\n])|(?<=[;|])'(?={_LEAD}[{_TRIGGERS}]))"
)
# A quick test that most cells pass.
_SUSPICIOUS: Final = re.compile(f"[{_TRIGGERS}\t\r\n]")


def defuse(text: str) -> str:
    """Return the text of a cell in a form that no spreadsheet executes."""
    return _DANGER.sub("'", text) if _SUSPICIOUS.search(text) else text


def restore(cell: str) -> str:
    """Return the text from which `defuse` made a cell."""
    return _MARKED.sub("", cell) if "'" in cell else cell
