"""Reading a JSON body strictly: what two parsers could read differently is refused."""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from tornado_members.errors import MalformedBody


def parse_json_object(body: bytes) -> dict[str, Any]:
    """The object that a body holds (RFC 8259). Raises MalformedBody.

    Refused beyond what json.loads refuses: names that stand twice in an object (§4 leaves open
    which one counts), NaN and Infinity (§6), anything but UTF-8 (§8.1), nesting too deep to parse.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_number
        )
    except UnicodeDecodeError as error:
        raise MalformedBody(
            f"The body is not UTF-8: byte {error.start} fits no character."
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MalformedBody(f"The body is not JSON: {error.msg} ({where}).") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None
    except ValueError as error:  # a number with thousands of digits
        raise MalformedBody(f"The body is not JSON that can be read here: {error}.") from None
    if not isinstance(value, dict):
        raise MalformedBody("The body must be a JSON object.")
    return value


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise MalformedBody("The body has an object in which a name stands twice.")
    return fields


def _no_number(text: str) -> NoReturn:
    raise MalformedBody(f"The body is not JSON: {text} is no number there.")
