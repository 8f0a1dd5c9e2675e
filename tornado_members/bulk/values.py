"""Converts the text of a cell to the value of a field."""

import re
from typing import Final

from tornado_members.bulk.formula_cells import restore

# A cell that a spreadsheet keeps as text: ="0123456789"
_TEXT_FORMULA: Final = re.compile(r'="((?:[^"]|"")*)"')
_BETWEEN_EMAILS: Final = re.compile(r":::|[;,\n]")
# Commas and strokes occur in one number; between two whole numbers they separate.
_BETWEEN_PHONES: Final = re.compile(
    r":::|\n|;(?!\s*ext=)|(?<=\d{3})\s*+[,/]\s*+(?=\+\d)", re.IGNORECASE
)
_ADDRESS: Final = re.compile(r"(?:[^<>]*+<)?(?:mailto:)?([^<>]++)>?", re.IGNORECASE)
_SEVERAL: Final = frozenset({"email", "phone"})  # fields whose cells may have several values
# Most cells have one value in its plain form, which has none of these.
_SPECIAL: Final = re.compile(r"[:;,/<>'\n]")
_APOSTROPHE: Final = re.compile(r"'(?=\d)")


def cell_text(cell: str, *, is_export: bool = False) -> str:
    """Return the text of a cell. In an export, white space is kept."""
    text = cell.strip()
    if not text:
        return ""
    if text[0] == "=" and (formula := _TEXT_FORMULA.fullmatch(text)):
        return formula[1].replace('""', '"').strip()
    return restore(cell if is_export else text) if "'" in cell or is_export else text


def first_value(field: str, text: str) -> tuple[str, list[str]]:
    """Return the first of the values in a cell, and the others."""
    if field not in _SEVERAL or not _SPECIAL.search(text):
        return text, []
    if field == "email":
        values = [_plain_address(value) for value in _split(_BETWEEN_EMAILS, text)]
        if len(values) > 1 and not all("@" in value for value in values):
            return text, []
    else:
        text = _APOSTROPHE.sub("", text, count=1) if text.startswith("'") else text
        values = _split(_BETWEEN_PHONES, text)
    return (values[0], values[1:]) if values else (text, [])


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    return [value.strip() for value in separator.split(text) if value.strip()]


def _plain_address(text: str) -> str:
    found = _ADDRESS.fullmatch(text) if "<" in text or ":" in text else None
    return found[1].strip() if found else text
