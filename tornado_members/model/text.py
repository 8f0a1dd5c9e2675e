"""Rules for all text of a member."""

import unicodedata

from tornado_members.model.strict_json import has_lone_surrogate

MAX_CHARACTERS = 255
LONGEST_FORM = 4 * MAX_CHARACTERS  # NFC makes one character of at most four (UAX #15)


def check_text(text: str) -> str:
    """Return the text. Raises ValueError if no field can hold it."""
    if has_lone_surrogate(text):  # JSON can carry half a character; UTF-8 and BSON cannot
        raise ValueError("contains a lone surrogate, which is not a character")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"has {len(text)} characters; at most {MAX_CHARACTERS} are allowed")
    return text


def case_fold(text: str) -> str:
    """Return the form in which text is compared in any case, in NFC (after Unicode §3.13).

    Text that is too long for any field is case-folded only: the time to normalize it grows with the
    square of the length of a run of combining marks.
    """
    if text.isascii():
        return text.lower()
    if len(text) > LONGEST_FORM:
        return text.casefold()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
