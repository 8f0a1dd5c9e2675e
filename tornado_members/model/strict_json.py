"""JSON read strictly: what two parsers could read differently is refused."""

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_DIGITS = 1000
_LONGEST_NAME = 255  # characters


def parse_object(data: bytes) -> dict[str, Any]:
    """The object that `data` holds (RFC 8259).

    Raises ValueError, with words that fit behind "it". Refused beyond what json.loads refuses:
    names that stand twice in an object (§4 leaves open which one counts), NaN and Infinity (§6),
    anything but UTF-8 (§8.1), nesting too deep to parse, anything but an object.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_int=_integer,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start} fits no character") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"is not JSON: {error.msg} ({where})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("has an object in which a name stands twice")
    return fields


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:  # reading it would take time that grows with its square
        raise ValueError(f"has a number of {len(text)} digits")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"is not JSON: {text} is no number there")


def has_lone_surrogate(text: str) -> bool:
    """True if a string contains half a character, which JSON can write and UTF-8 cannot."""
    return _SURROGATE.search(text) is not None


def json_pointer(name: str) -> str:
    """A pointer to a member of an object (RFC 6901 §3), short and printable whatever its name."""
    shown = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    shown = shown.encode("utf-8", "replace").decode()
    return "/" + shown.replace("~", "~0").replace("/", "~1")
