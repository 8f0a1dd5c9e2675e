"""Attributes: their declaration, and their values in JSON, CSV files and schemas."""

import json
from functools import partial
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.processor_time import costs_at_most
from tornado_members.bulk.attribute_cells import read_cell, write_cell
from tornado_members.model.attribute_table import AttributeTable, json_size
from tornado_members.model.attributes import MAX_JSON_BYTES, Attribute
from tornado_members.settings.attribute_checks import attribute_faults
from tornado_members.settings.attributes import AttributeSettings, field_table

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.dates().map(str)
    | st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=6,
)
KINDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "enum": {"type": "string", "enum": ["a", "b;c", "[d"]},
    "pattern": {"type": "string", "pattern": "^[a-z;,\\[\\] ]+$"},
    "email": {"type": "string", "format": "email"},
    "uri": {"type": "string", "format": "uri", "max_length": 40},
    "integer": {"type": "integer"},
    "bounded": {"type": "integer", "minimum": -5, "maximum": 5},
    "number": {"type": "number", "minimum": -1e300},
    "boolean": {"type": "boolean"},
    "date": {"type": "date"},
    "datetime": {"type": "datetime"},
}


def declared(**attributes: dict[str, Any]) -> AttributeTable:
    """Return the table of these attributes, which must be valid."""
    parsed = {name: AttributeSettings.model_validate(one) for name, one in attributes.items()}
    assert not list(attribute_faults(parsed))
    return field_table(parsed).attributes


def faults_of(**attributes: dict[str, Any]) -> list[str]:
    """Return the faults of declarations."""
    parsed = {name: AttributeSettings.model_validate(one) for name, one in attributes.items()}
    return list(attribute_faults(parsed))


SCALARS = declared(**KINDS)
LISTS = declared(**{name: {**one, "list": True} for name, one in KINDS.items()})
VALUES = st.one_of(
    *(st.sampled_from([*attribute.enum]) for attribute in SCALARS if attribute.enum),
    st.from_regex(r"[a-z;,\[\] ]{1,20}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-5, 5),
    JSON_VALUES,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*SCALARS, *LISTS]), VALUES | st.lists(VALUES, max_size=4))
def test_checked_values_are_stable_described_and_survive_csv(one: Attribute, value: Any) -> None:
    checked, faults = one.check(value)
    if faults:
        assert checked is None
        return
    assert one.check(checked) == (checked, [])
    jsonschema.validate(checked, one.stored_schema())
    assert read_cell(one, write_cell(checked)) == checked


@pytest.mark.parametrize(
    ("items", "cell"),
    [
        (["a", "b c"], "a;b c"),
        ([], "[]"),
        (["a;b"], '["a;b"]'),
        ([" a"], '[" a"]'),
        (["a", "b\n"], '["a", "b\\n"]'),
        (["[a"], '["[a"]'),
        (["é", '"'], 'é;"'),
    ],
)
def test_list_attribute_is_written_to_one_cell(items: list[str], cell: str) -> None:
    assert write_cell(items) == cell
    assert read_cell(LISTS["text"], cell) == items


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        ("date", "45000", "2023-03-15"),
        ("datetime", "45000.5", "2023-03-15T12:00:00.000Z"),
        ("date", "999999", "4637-11-25"),
        ("date", "0", "0"),
        ("boolean", "TRUE", True),
        ("boolean", "0", False),
        ("integer", "+05", 5),
        ("integer", "5.0", "5.0"),
        ("number", "1e3", 1000.0),
        ("number", "one", "one"),
    ],
)
def test_cells_of_spreadsheets_are_read(name: str, cell: str, value: Any) -> None:
    assert read_cell(SCALARS[name], cell) == value


@pytest.mark.parametrize("number", [0.0, -0.0, 2.0**53, -(2.0**53), 10.0**16 - 2, 10.0**16, 1e300])
def test_whole_numbers_are_shown_without_a_fraction(number: float) -> None:
    shown, faults = SCALARS["number"].check(number)
    assert not faults
    assert "." not in json.dumps(shown)
    assert shown == number


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*SCALARS, *LISTS]), VALUES)
def test_values_that_the_schema_admits_are_valid(one: Attribute, value: Any) -> None:
    is_exact = one.type in ("integer", "number", "boolean") or one.enum is not None
    schema_valid = jsonschema.Draft202012Validator(one.stored_schema()).is_valid(value)
    has_format = one.format is not None or one.type in ("date", "datetime")
    _, faults = one.check(value)
    if schema_valid and not has_format and not one.matches:
        assert not faults or "nan" in str(value) or "inf" in str(value)
    if not schema_valid and is_exact:
        assert faults


def test_defaults_apply_to_new_members_only() -> None:
    table = declared(vip={"type": "boolean", "default": False}, level={"type": "string"})
    assert table.validate({}).values == {"vip": False}
    assert table.validate({"vip": None}).values == {}
    assert table.validate(None).values == {}
    assert table.merge({}, {"level": "x"}).values == {"level": "x"}
    assert table.merge({"vip": True}, {"vip": None}).values == {}
    assert table.merge({"vip": True, "level": "x"}, None).values == {}


def test_required_attributes_cannot_be_missing_or_removed() -> None:
    table = declared(level={"type": "string", "required": True}, score={"type": "integer"})
    for checked in (
        table.validate({}),
        table.validate(None),
        table.merge({"level": "x"}, {"level": None}),
        table.merge({"level": "x"}, None),
        table.merge({}, {"level": None}),
    ):
        assert [(fault.pointer, fault.detail) for fault in checked.faults] == [
            ("/attributes/level", "is missing")
        ]
    assert not table.merge({}, {"score": 5}).faults  # an older member may lack it


def test_size_of_all_attributes_is_limited() -> None:
    table = declared(text={"type": "string", "list": True, "max_length": 1000})
    fitting = ["x" * 1000] * 16
    assert json_size({"text": fitting}) < MAX_JSON_BYTES
    assert not table.validate({"text": fitting}).faults
    (fault,) = table.validate({"text": [*fitting, "x" * 1000]}).faults
    assert (fault.pointer, fault.detail[:4]) == ("/attributes", "take")
    too_large = {"text": [*fitting, "x" * 1000, "x" * 1000]}
    assert not table.merge(too_large, {}).faults
    assert not table.merge(too_large, {"text": [*fitting, "x" * 1000]}).faults  # it is smaller
    assert table.merge(too_large, {"text": [*fitting, "x" * 1000, "y" * 1000]}).faults


def test_merge_leaves_out_what_stays_the_same() -> None:
    table = declared(score={"type": "integer", "maximum": 5}, level={"type": "string"})
    assert table.merge({"score": 7}, {"score": 7, "level": "x"}).left_out == {"score"}
    assert table.merge({"score": 1}, {"score": True}).faults  # True equals 1 in Python


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|a)*b", "(x+x+)+y", "(?:a?){500}b"])
def test_catastrophic_patterns_take_bounded_time(pattern: str) -> None:
    """Python's engine takes minutes for 40 characters; RE2 is as fast as for a plain pattern."""
    table = declared(
        evil={"type": "string", "pattern": pattern, "max_length": 1000},
        plain={"type": "string", "pattern": "^[a-z]+$", "max_length": 1000},
    )
    text = "a" * 500 + "x" * 499 + "!"
    check = {attribute.name: partial(attribute.check, text) for attribute in table}
    assert costs_at_most(1000, check["evil"], check["plain"], slack=0.4)


@pytest.mark.parametrize(
    ("declaration", "fault"),
    [
        ({"type": "string", "pattern": "(?=x)"}, "a.pattern: was '(?=x)'; should be a regular"),
        ({"type": "string", "pattern": "(a?b?){999}", "max_length": 1000}, "a.pattern: was"),
        ({"type": "integer", "pattern": "x"}, "a.pattern: was 'x'; should be left out"),
        ({"type": "boolean", "enum": [True]}, "a.enum: was (True,); should be left out"),
        ({"type": "integer", "default": "x"}, "a.default: was 'x'; should be an integer"),
        ({"type": "integer", "list": True, "default": 5}, "a.default: was 5; should be a list"),
        ({"type": "integer", "enum": [1, True]}, "a.enum: was (1, True); should be a list"),
        ({"type": "integer", "maximum": 1, "minimum": 5}, "a.minimum: was 5; should be at most 1"),
        ({"type": "string", "max_items": 5}, "a.max_items: was 5; should be left out"),
        ({"type": "string", "csv_headings": "Mail"}, "a.csv_headings: was 'Mail'; should be"),
        ({"type": "string", "csv_headings": "B"}, "a.csv_headings: was 'B'; should be"),
    ],
)
def test_wrong_declarations_are_named_with_their_value(
    declaration: dict[str, Any], fault: str
) -> None:
    (found,) = faults_of(a=declaration, b={"type": "string"})
    assert found.startswith(f"members.attributes.{fault}")


def test_names_are_plain_and_distinct() -> None:
    assert len(faults_of(**{"a-b": {"type": "string"}, "5": {"type": "string"}})) == 2
    assert len(faults_of(a_b={"type": "string"}, AB={"type": "string"})) == 1
