"""Attributes in the cells of CSV files.

The items of a list are separated by semicolons. A list whose items would be misread that way is
written as JSON.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tornado_members.model.attribute_types import format_datetime, to_text
from tornado_members.model.attributes import KEY, Attribute
from tornado_members.model.fields import FieldTable

_SEPARATOR: Final = ";"
# Spreadsheets store dates as days since 1899-12-30, and times as fractions of a day.
_SERIAL: Final = re.compile(r"[1-9][0-9]{0,5}(?:\.[0-9]{1,20})?")
_FIRST_DAY: Final = datetime(1899, 12, 30, tzinfo=UTC)


def write_cell(value: Any) -> str:
    """Return the cell of a value; empty for None."""
    if value is None:
        return ""
    if isinstance(value, list):
        return _write_list(value)
    return _to_json(value) if isinstance(value, Mapping) else to_text(value)


def read_cell(attribute: Attribute, cell: str) -> Any:
    """Return the value of a cell; the text itself if it is not valid."""
    if not attribute.is_list:
        return _read_item(attribute, cell)
    if cell.lstrip().startswith("["):
        try:
            items = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        return items if isinstance(items, list) else cell
    items = (item for text in cell.split(_SEPARATOR) if (item := text.strip()))
    return [_read_item(attribute, item) for item in items]


def _read_item(attribute: Attribute, text: str) -> Any:
    if attribute.type in ("date", "datetime") and _SERIAL.fullmatch(text):
        moment = _FIRST_DAY + timedelta(days=float(text))
        return moment.date().isoformat() if attribute.type == "date" else format_datetime(moment)
    return attribute.read(text)


def nested(values: Mapping[str, Any], fields: FieldTable) -> Mapping[str, Any]:
    """Return the body of a member, given the values of its columns."""
    if not fields.attributes:
        return values
    body = {name: value for name, value in values.items() if name in fields.names}
    by_path = fields.attributes.by_path
    found = {by_path[path].name: value for path, value in values.items() if path in by_path}
    return {**body, KEY: found}


def with_cells_read(values: Mapping[str, str | None], fields: FieldTable) -> Mapping[str, Any]:
    """Return the values of columns, with the cells of attributes parsed."""
    by_path = fields.attributes.by_path
    return {
        column: read_cell(by_path[column], text) if text and column in by_path else text
        for column, text in values.items()
    }


def _write_list(items: list[Any]) -> str:
    texts = [to_text(item) for item in items]
    is_plain = texts and not any(isinstance(item, list | Mapping) for item in items)
    if is_plain and not texts[0].startswith("[") and all(map(_is_plain, texts)):
        return _SEPARATOR.join(texts)
    return _to_json(items)


def _is_plain(text: str) -> bool:
    return bool(text) and _SEPARATOR not in text and text == text.strip()


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
