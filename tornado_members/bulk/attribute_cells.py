"""Attributes in the cells of CSV files.

The items of a list are separated by semicolons. A list whose items would be misread that way is
written as JSON.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from tornado_members.model.attribute_types import to_text
from tornado_members.model.attributes import KEY, Attribute
from tornado_members.model.fields import FieldTable

_SEPARATOR: Final = ";"


def write_cell(value: Any) -> str:
    """Return the cell of a value; None stands for no value."""
    if value is None:
        return ""
    if isinstance(value, list):
        return _write_list(value)
    return _to_json(value) if isinstance(value, Mapping) else to_text(value)


def read_cell(attribute: Attribute, cell: str) -> Any:
    """Return the value that a cell writes; the text itself if it writes none."""
    if not attribute.is_list:
        return attribute.read(cell)
    if cell.lstrip().startswith("["):
        try:
            items = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        return items if isinstance(items, list) else cell
    return [attribute.read(item) for text in cell.split(_SEPARATOR) if (item := text.strip())]


def nested(values: Mapping[str, Any], fields: FieldTable) -> Mapping[str, Any]:
    """Return the body of a member, given the values of its columns."""
    if not fields.attributes:
        return values
    body = {name: value for name, value in values.items() if name in fields.names}
    by_path = fields.attributes.by_path
    found = {by_path[path].name: value for path, value in values.items() if path in by_path}
    return {**body, KEY: found}


def with_cells_read(values: Mapping[str, str | None], fields: FieldTable) -> Mapping[str, Any]:
    """Return the values of columns, in which the cells of attributes were read."""
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
