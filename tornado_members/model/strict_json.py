"""A strict JSON parser. It refuses input that two parsers could read differently."""

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_DIGITS = 1000
_MAX_DEPTH = 500  # levels; the limit of the parser depends on the version of Python
_MAX_NAME_CHARACTERS = 255


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object (RFC 8259).

    Raises ValueError with a message that continues "The body". Beyond what json.loads refuses,
    these are refused: a name that occurs twice in an object (§4 leaves the value undefined),
    NaN and Infinity (§6), encodings other than UTF-8 (§8.1), more than 500 nested levels (§9), and
    values other than objects.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_distinct,
            # The function is called for each number. A short body has no number that is too long.
            parse_int=_integer if len(data) > _MAX_DIGITS else None,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start} is not part of a character") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"is not JSON: {error.msg} ({where})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if data.count(b"{") + data.count(b"[") > _MAX_DEPTH and _is_too_deep(value):
        raise ValueError("is nested too deeply")
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        items = (value.values() if isinstance(value, dict) else value for value in level)
        level = [inner for item in items for inner in item if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("has an object in which a name occurs twice")
    return fields


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:  # the time to parse it grows with the square of its length
        raise ValueError(f"has a number of {len(text)} digits")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"is not JSON: {text} is not a JSON number")


def integer_of(value: object) -> int | None:
    """Return the integer value of a JSON number; None for any other value.

    A number without a fraction is an integer, however it is written: 5.0 is 5 (JSON Schema
    Validation §6.1.1).
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def has_lone_surrogate(text: str) -> bool:
    """True if a string contains half a character, which JSON can write and UTF-8 cannot."""
    return _SURROGATE.search(text) is not None


def json_pointer(name: str) -> str:
    """Return a pointer to a member of an object (RFC 6901 §3), shortened and printable."""
    shown = name if len(name) <= _MAX_NAME_CHARACTERS else name[:_MAX_NAME_CHARACTERS] + "…"
    shown = shown.encode("utf-8", "replace").decode()
    return "/" + shown.replace("~", "~0").replace("/", "~1")
