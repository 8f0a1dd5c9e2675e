"""Escapes text of files for terminals and messages."""

_FIRST_ESCAPED, _LAST_ESCAPED = 0xDC80, 0xDCFF  # bytes that could not be decoded (PEP 383)


def printable(text: str, longest: int = 80) -> str:
    """Return text on one line, with characters escaped that are not printable."""
    cut = text if len(text) <= longest else f"{text[:longest]}..."
    return cut if cut.isprintable() else "".join(map(_escape, cut))


def quoted(text: str, longest: int = 40) -> str:
    """Return text in quotes, with characters escaped that are not printable."""
    return f"'{printable(text, longest)}'"


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    number = ord(character)
    if _FIRST_ESCAPED <= number <= _LAST_ESCAPED:
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
