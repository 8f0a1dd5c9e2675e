"""Values of query parameters, parsed for all handlers.

AdmissionControl has refused parameters that are unknown or given twice. Every function raises
BadParameter for a value that the description of the API excludes.
"""

from collections.abc import Mapping, Sequence

from tornado_members.errors import BadParameter

Arguments = Mapping[str, Sequence[bytes]]


def text_of(arguments: Arguments, name: str) -> str | None:
    """Return the text of a parameter as it was sent; None if it is absent."""
    values = arguments.get(name)
    return decode_value(name, values[0]) if values else None


def decode_value(name: str, value: bytes) -> str:
    """Return one value of a parameter as text."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadParameter(name, "is not UTF-8") from None


def number_of(arguments: Arguments, name: str, most: int) -> int | None:
    """Return a number from 1 to `most`; None if the parameter is absent."""
    text = text_of(arguments, name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not is_number or not 1 <= int(text) <= most:
        raise BadParameter(name, f"should be a number from 1 to {most}")
    return int(text)


def flag_of(arguments: Arguments, name: str) -> bool:
    """Return True for `true`, and False for `false` or an absent parameter."""
    text = text_of(arguments, name)
    if text not in (None, "true", "false"):
        raise BadParameter(name, "should be true or false")
    return text == "true"
