"""The query of a list, and the address of its next page."""

import base64
import json
import unicodedata
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from tornado_members.errors import BadParameter
from tornado_members.handlers.parameters import (
    Arguments,
    decode_value,
    flag_of,
    number_of,
    text_of,
)
from tornado_members.model.attribute_types import to_text
from tornado_members.model.attributes import Attribute
from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.model.member import MAX_MEMBER_ID, MEMBER_FIELDS, SortField
from tornado_members.model.names import STORED_NAME_PATTERN, check_stored_name, normalize_name
from tornado_members.model.strict_json import has_lone_surrogate
from tornado_members.model.text import MAX_CHARACTERS
from tornado_members.model.words import MAX_QUERY_WORDS, query_words
from tornado_members.openapi.operation import Parameter

_MAX_LIMIT: Final = 1000
_EQUAL: Final = tuple(field.name for field in MEMBER_FIELDS if field.filter)
_SORTS: Final[Mapping[str, tuple[SortField, bool]]] = {
    "memberId": ("memberId", False),
    "-memberId": ("memberId", True),
    "name": ("name", False),
    "-name": ("name", True),
}

_DEFAULT: Final = ListQuery()
_NO_FILTERS: Final = frozenset({"limit", "sort", "after", "bom", "delimiter", "memberId"})
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS}

# Spreadsheets in countries with a decimal comma expect a semicolon.
_DELIMITERS: Final = {",": ",", ";": ";", "tab": "\t"}
LIST_PARAMETERS: Final = {
    "name": Parameter(
        "Only the member with exactly this name, in Unicode NFC.",
        {"type": "string", "pattern": STORED_NAME_PATTERN},
    ),
    "name_prefix": Parameter(
        "Only members whose name begins with this text, in any case.",
        {"type": "string", "pattern": STORED_NAME_PATTERN},
    ),
    "q": Parameter(
        "Only members in whose name or e-mail address each of these words, at most "
        f"{MAX_QUERY_WORDS}, begins a word, in any case and with or without accents.",
        _TEXT,  # without an example: the page at /docs would fill it in
    ),
    **{field.name: Parameter(field.filter, _TEXT) for field in MEMBER_FIELDS if field.filter},
    "limit": Parameter(
        "Maximum number of members per page.",
        {
            "type": "integer",
            "minimum": 1,
            "maximum": _MAX_LIMIT,
            "default": _DEFAULT.limit,
        },
        _DEFAULT.limit,
    ),
    "sort": Parameter(
        "The sort key; a minus reverses the order.",
        {"type": "string", "enum": [*_SORTS], "default": "memberId"},
        "name",
    ),
    "bom": Parameter(
        "Begin a CSV export with a byte order mark, so that spreadsheets recognise UTF-8.",
        {"type": "boolean", "default": False},
        True,
    ),
    "delimiter": Parameter(
        "The separator of a CSV export: `,`, `;` or `tab`.",
        {"type": "string", "enum": [*_DELIMITERS], "default": ","},
        ";",
    ),
    "after": Parameter(
        "The cursor in `next` of the previous page, to be sent with the same `sort` and filters.",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
    ),
}


def parse_csv_options(arguments: Arguments) -> tuple[str, bool]:
    """Return the delimiter of a CSV export, and True for a byte order mark. Raises BadParameter."""
    delimiter = text_of(arguments, "delimiter")
    if delimiter is None:
        delimiter = ","
    if delimiter not in _DELIMITERS:
        raise BadParameter("delimiter", f"should be one of {' '.join(_DELIMITERS)}")
    return _DELIMITERS[delimiter], flag_of(arguments, "bom")


def parse_list_query(arguments: Arguments, fields: FieldTable = MEMBER_FIELDS) -> ListQuery:
    """Parse the query of a list. Raises BadParameter."""
    texts = {name: decode_value(name, values[0]) for name, values in arguments.items()}
    parse_csv_options(arguments)  # JSON does not use them, but they must be valid
    has_filters = not _NO_FILTERS.issuperset(texts)
    filters = _parse_filters(texts, fields) if has_filters else _DEFAULT.filters
    limit = number_of(arguments, "limit", _MAX_LIMIT) or _DEFAULT.limit
    sort = texts.get("sort", _sort(_DEFAULT))
    if sort not in _SORTS:
        raise BadParameter("sort", f"should be one of {', '.join(_SORTS)}")
    field, descending = _SORTS[sort]
    after = None
    if "after" in texts:
        after = _parse_cursor(texts["after"], ListQuery(filters, field, descending))
    return ListQuery(filters, field, descending, after, limit)


def _parse_filters(texts: Mapping[str, str], fields: FieldTable) -> Filters:
    return Filters(
        name=_parse_name(texts["name"]) if "name" in texts else None,
        name_prefix=_parse_prefix(texts["name_prefix"]) if "name_prefix" in texts else None,
        equal={name: _check_length(name, texts[name]) for name in _EQUAL if name in texts},
        q=_parse_search(texts["q"]) if "q" in texts else None,
        attributes={
            attribute.path: _parse_attribute(attribute, texts[attribute.path])
            for attribute in fields.attributes
            if attribute.path in texts
        },
    )


def parse_export_query(
    arguments: Arguments, fields: FieldTable = MEMBER_FIELDS
) -> tuple[ListQuery, int | None]:
    """Parse the query of an export; also return its limit, or None for all members."""
    limits = arguments.get("limit", [])
    if len(limits) != 1:
        return parse_list_query(arguments, fields), None
    if not limits[0].isdigit() or len(limits[0]) > 15 or not int(limits[0]):
        raise BadParameter("limit", "should be a number from 1")
    rest = {name: values for name, values in arguments.items() if name != "limit"}
    return parse_list_query(rest, fields), int(limits[0])


def next_path(query: ListQuery, last: int | str) -> str:
    """Return the address of the page after the one whose last member has this sort key."""
    filters = _encode_filters(query.filters) if query.filters is not _DEFAULT.filters else ""
    # The other values need no percent-encoding.
    cursor = _cursor(query, last)
    return f"/members?{filters}limit={query.limit}&sort={_sort(query)}&after={cursor}"


def _encode_filters(filters: Filters) -> str:
    """Return the parameters of the filters, each followed by an ampersand."""
    named = {"name": filters.name, "name_prefix": filters.name_prefix, "q": filters.q}
    named |= filters.equal
    parameters = {name: text for name, text in named.items() if text is not None}
    parameters |= {path: to_text(value) for path, value in filters.attributes.items()}
    return urlencode(parameters) + "&" if parameters else ""


def _parse_name(text: str) -> str:
    """Validate and normalise a name as that of a member."""
    try:
        return check_stored_name(text)
    except ValueError as error:
        raise BadParameter("name", str(error)) from None


def _parse_prefix(text: str) -> str:
    """Normalise a prefix like a name, but keep white space at its end."""
    name = normalize_name(text)
    end = text[len(text.rstrip()) :] if name else ""
    return _check_length("name_prefix", name + unicodedata.normalize("NFC", end))


def _parse_search(text: str) -> str:
    """Validate the words of a search."""
    try:
        query_words(_check_length("q", text))
    except ValueError as error:
        raise BadParameter("q", str(error)) from None
    return text


def _check_length(parameter: str, text: str) -> str:
    if not text:
        raise BadParameter(parameter, "is empty")
    if len(text) > MAX_CHARACTERS:
        detail = f"has {len(text)} characters; at most {MAX_CHARACTERS} are allowed"
        raise BadParameter(parameter, detail)
    return text


def _parse_attribute(attribute: Attribute, text: str) -> Any:
    """Return the value of a filter. Any stored value can be found: the rules do not apply."""
    try:
        return attribute.parse_filter(text)
    except ValueError as error:
        raise BadParameter(attribute.path, str(error)) from None


def _sort(query: ListQuery) -> str:
    return ("-" if query.descending else "") + query.field


def _cursor(query: ListQuery, key: int | str) -> str:
    """Return a cursor. It holds the sort and a digest of the filters for which it is valid.

    It is not signed: a forged one can only select another position in the list.
    """
    content = orjson.dumps([_sort(query), _digest(query.filters), key])
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _digest(filters: Filters) -> str:
    return _DIGEST_WITHOUT if filters is _DEFAULT.filters else _make_digest(filters)


def _make_digest(filters: Filters) -> str:
    texts: list[Any] = [filters.name, filters.name_prefix]
    texts += [filters.equal.get(name) for name in _EQUAL]
    if filters.q is not None:  # at the end: without it, cursors of earlier versions stay valid
        texts.append(filters.q)
    texts += filters.attributes.items()
    return blake2b(json.dumps(texts).encode(), digest_size=6).hexdigest()


_DIGEST_WITHOUT: Final = _make_digest(_DEFAULT.filters)


def _parse_cursor(text: str, query: ListQuery) -> int | str:
    try:
        padded = text + "=" * (-len(text) % 4)
        content = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        raise _not_a_cursor() from None
    if not isinstance(content, list) or len(content) != 3 or content[0] not in list(_SORTS):
        raise _not_a_cursor()
    sort, digest, key = content
    if sort != _sort(query):
        raise BadParameter("after", f"is a cursor of another sort than {_sort(query)}")
    if digest != _digest(query.filters):
        raise BadParameter("after", "is a cursor of a list with other filters")
    if query.field == "memberId" and type(key) is int and 0 < key <= MAX_MEMBER_ID:
        return key
    if query.field == "name" and isinstance(key, str) and not has_lone_surrogate(key):
        return key
    raise _not_a_cursor()


def _not_a_cursor() -> BadParameter:
    return BadParameter("after", "is not a cursor; take it from 'next'")
