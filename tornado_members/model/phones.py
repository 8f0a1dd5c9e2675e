"""The rules of telephone numbers."""

import re

from tornado_members.model import characters
from tornado_members.model.text import MAX_CHARACTERS, check_text

# The characters of a telephone number: digits, punctuation and an extension.
_PHONE = re.compile(r"(?:[0-9+()\-./,;#* ]|ext|x)*", re.IGNORECASE)
# A number that is stored as it is: most are. It has at most 243 characters.
_PLAIN = re.compile(r"[+(]{0,2}[0-9](?:[() -]{0,3}[0-9]){2,60}")
# A URI (RFC 3966) or a label before a number, and the ways to write an extension.
_PHONE_LABEL = re.compile(r"^\s*tel(?:\.:?|:)\s*", re.IGNORECASE)
_EXTENSION = re.compile(r"\s*;ext=\s*|\s*\bext(?:ension\b|[:=])[.:]?\s*", re.IGNORECASE)
# Spreadsheets store long numbers as floating point, and drop digits.
_SCIENTIFIC = re.compile(r"\s*[0-9]+(?:[.,][0-9]+)?E[+-]?[0-9]+\s*", re.IGNORECASE)
_DECIMAL = re.compile(r"\s*[0-9]{7,}\.0+\s*")
_DIGIT = re.compile(r"[0-9]")

# The same rules for /openapi.json, as a regular expression of ECMA-262.
_NO_DIGIT = (
    rf"(?:[-+()./,;#* {characters.TYPOGRAPHIC_HYPHENS}{characters.TYPOGRAPHIC_SPACES}xX]"
    r"|[eE][xX][tT](?:[eE][nN][sS][iI][oO][nN])?)*"
)
PHONE_PATTERN = (
    rf"^(?=.{{3,{MAX_CHARACTERS}}}$)(?![0-9]+\.0+$)"
    rf"{_NO_DIGIT}(?:[0-9]{_NO_DIGIT}){{3,}}$"
)


def normalize_phone(phone: str) -> str:
    """Return a telephone number with plain hyphens and spaces, without a label before it."""
    phone = characters.plain_punctuation(characters.trim_with_overrides(phone))
    return _EXTENSION.sub(" ext ", _PHONE_LABEL.sub("", phone, count=1))


def check_phone(phone: str) -> str:
    """Return the number in the form in which it is stored. Raises ValueError."""
    if _PLAIN.fullmatch(phone):
        return phone
    phone = normalize_phone(check_text(characters.trim_with_overrides(phone)))
    if _SCIENTIFIC.fullmatch(phone) or _DECIMAL.fullmatch(phone):
        raise ValueError(
            "is a number as a spreadsheet stores it, which may have lost digits: "
            "format the column as text there, and enter the telephone number again"
        )
    if not _PHONE.fullmatch(phone):
        if hidden := characters.invisible_character(phone):
            raise ValueError(f"contains {characters.describe(hidden)}, which is invisible")
        raise ValueError(
            "is not a telephone number: only digits, + ( ) - . / , ; # * and spaces, "
            "and ext or x before an extension"
        )
    if len(_DIGIT.findall(phone)) < 3:
        raise ValueError("is not a telephone number: it has fewer than three digits")
    return phone
