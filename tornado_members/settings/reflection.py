"""Reading the schema itself: nested sections, and the values that a setting allows."""

from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel


def section_within(annotation: Any) -> type[BaseModel] | None:
    """Return the section in an annotation such as `Jwks | None` or `tuple[Issuer, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((s for a in get_args(annotation) if (s := section_within(a))), None)


def is_map(annotation: Any) -> bool:
    """Return True if a setting is a map whose keys the operator chooses."""
    return get_origin(annotation) is dict or any(map(is_map, get_args(annotation)))


def nested_section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the section of a setting; None if its author describes its values as a whole."""
    field = model.model_fields[name]
    described = isinstance(field.json_schema_extra, dict) and "values" in field.json_schema_extra
    return None if described else section_within(field.annotation)


def allowed_values(model: type[BaseModel], name: str) -> str:
    """Describe the values that a setting allows, such as "integer, 0 to 65535"."""
    return _describe(field_schema(model, name))


def field_schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    """Return the JSON schema of one setting."""
    schema: dict[str, Any] = _json_schema(model)["properties"][name]
    return schema


@cache
def _json_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _describe(schema: dict[str, Any]) -> str:
    if "values" in schema:  # given by the schema's author
        return str(schema["values"])
    if "enum" in schema:
        *others, last = [f"`{value}`" for value in schema["enum"]]
        return f"{', '.join(others)} or {last}" if others else last
    if "anyOf" in schema:
        return " or ".join(_describe(branch) for branch in schema["anyOf"])
    kind = str(schema.get("format") or schema.get("type", "map"))
    if kind == "array":
        return f"list of {_describe(schema['items'])}"
    if kind in ("integer", "number"):
        return f"{kind}{_range(schema)}"
    names = {"null": "`null`", "boolean": "`true` or `false`", "string": "text"}
    return names.get(kind, kind)


def _range(schema: dict[str, Any]) -> str:
    least, above, most = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if above is not None:
        return f" above {above:.15g}" + ("" if most is None else f", at most {most:.15g}")
    if most is None:
        return f", at least {least:.15g}"
    return f", {least:.15g} to {most:.15g}"
