"""The types of attributes: their values in JSON, text and schemas."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, Literal

from tornado_members.model import characters
from tornado_members.model.emails import MAX_EMAIL_CHARACTERS, check_email
from tornado_members.model.phones import PHONE_PATTERN, check_phone
from tornado_members.model.strict_json import has_lone_surrogate, integer_of

TextFormat = Literal["email", "phone", "uri"]
TypeName = Literal["string", "integer", "number", "boolean", "date", "datetime"]

_FIRST_EXPONENT: Final = 1e16  # Python writes larger floats with an exponent, without a fraction
MAX_INTEGER: Final = 2**53 - 1  # every JSON client reads integers up to it exactly (RFC 8259 §6)

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,4})?"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# RFC 3339 §5.6; "T" and "Z" may be in lower case, and a space may stand for "T".
_DATETIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,100}))?"
    r"(?:[Zz]|([+-][0-9]{2}:[0-9]{2}))"
)
# RFC 3986 §3: a scheme, and then only characters of URIs.
URI_PATTERN: Final = (
    r"^[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$"
)
_URI: Final = re.compile(URI_PATTERN)
_BOOLEANS: Final = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
# Control characters but tab, line feed and carriage return, which are white space in text.
_CONTROL: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_CONTROL_CHARACTER: Final = re.compile(f"[{_CONTROL}]")
# The rules of text for /openapi.json: no control characters, and something other than white space.
TEXT_PATTERN: Final = rf"^[^{_CONTROL}]*[^{_CONTROL}{characters.SPACES}][^{_CONTROL}]*$"


@dataclass(frozen=True, slots=True)
class TextRules:
    """The rules of one format of strings."""

    check: Callable[[str], str]
    json_schema: Mapping[str, Any]
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueType:
    """One type of values."""

    noun: str  # "must be ..."
    # Returns the value in the form of responses. Raises ValueError with a message that can follow
    # the name of the attribute.
    check: Callable[[Any], Any]
    # Returns the value of a text; the text itself if it is not a value.
    read: Callable[[str], Any]
    json_schema: Mapping[str, Any] = field(default_factory=dict)
    example: Any


def to_text(value: Any) -> str:
    """Return a value as CSV files and query parameters write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def format_datetime(moment: datetime) -> str:
    """Return a time in UTC with milliseconds, in the form of RFC 3339."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text}Z"


def parse_datetime(text: str) -> datetime:
    """Return a time of RFC 3339 in UTC, truncated to milliseconds. Raises ValueError."""
    found = _DATETIME.fullmatch(text)
    if found is None:
        raise ValueError("is not a time of RFC 3339, such as 2026-11-22T11:05:42Z")
    day, time, fraction, offset = found.groups()
    milliseconds = f"{(fraction or '')[:3]:0<3}"
    try:
        moment = datetime.fromisoformat(f"{day}T{time}.{milliseconds}{offset or '+00:00'}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is a time that does not exist in the years 1 to 9999") from None


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if has_lone_surrogate(value):
        raise ValueError("contains a lone surrogate, which is not a character")
    if found := _CONTROL_CHARACTER.search(value):
        raise ValueError(f"contains the control character U+{ord(found[0]):04X}")
    if not value.strip():
        raise ValueError("is empty" if not value else "has only white space")
    return value


def _check_uri(text: str) -> str:
    if not _URI.fullmatch(text):
        raise ValueError("is not a URI (RFC 3986), such as https://example.org/")
    return text


def _check_integer(value: Any) -> int:
    number = integer_of(value)
    if number is None:
        raise ValueError("must be an integer")
    if abs(number) > MAX_INTEGER:
        raise ValueError(f"must be from {-MAX_INTEGER} to {MAX_INTEGER}")
    return number


def _check_number(value: Any) -> int | float:
    if type(value) not in (int, float):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("is too large for a number of 64 bits")
    return plain_number(number)


def plain_number(number: float) -> int | float:
    """Return a whole number without a fraction, so that 5 and 5.0 are shown as one value."""
    return int(number) if number.is_integer() and abs(number) < _FIRST_EXPONENT else number


def _check_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _check_date(value: Any) -> str:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError("must be a date such as 1815-12-10")
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError("is a day that does not exist") from None


def _check_datetime(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string with a time of RFC 3339, such as 2026-11-22T11:05:42Z")
    return format_datetime(parse_datetime(value))


def _read_number(text: str) -> Any:
    return float(text) if _NUMBER.fullmatch(text) else text


def _read_integer(text: str) -> Any:
    return int(text) if _INTEGER.fullmatch(text) else text


VALUE_TYPES: Final[Mapping[TypeName, ValueType]] = {
    "string": ValueType(
        noun="a string", check=_check_text, read=str, json_schema={"type": "string"}, example="text"
    ),
    "integer": ValueType(
        noun="an integer",
        check=_check_integer,
        read=_read_integer,
        json_schema={"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
        example=1,
    ),
    "number": ValueType(
        noun="a number",
        check=_check_number,
        read=_read_number,
        json_schema={"type": "number"},
        example=1.5,
    ),
    "boolean": ValueType(
        noun="a boolean",
        check=_check_boolean,
        read=lambda text: _BOOLEANS.get(text.lower(), text),
        json_schema={"type": "boolean"},
        example=True,
    ),
    "date": ValueType(
        noun="a date",
        check=_check_date,
        read=str,
        json_schema={"type": "string", "format": "date"},
        example="1815-12-10",
    ),
    "datetime": ValueType(
        noun="a time",
        check=_check_datetime,
        read=str,
        json_schema={"type": "string", "format": "date-time"},
        example="2026-11-22T11:05:42.000Z",
    ),
}

TEXT_FORMATS: Final[Mapping[TextFormat, TextRules]] = {
    "email": TextRules(
        check_email, {"format": "idn-email", "maxLength": MAX_EMAIL_CHARACTERS}, "ada@example.org"
    ),
    "phone": TextRules(check_phone, {"pattern": PHONE_PATTERN}, "+44 20 7946 0018"),
    "uri": TextRules(_check_uri, {"format": "uri", "pattern": URI_PATTERN}, "https://example.org/"),
}
