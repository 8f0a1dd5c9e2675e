"""docs/settings.md and settings.yaml are what scripts/settings-reference generates."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from tests.support.service import ROOT
from tools import settings_reference
from tornado_members.settings import Settings
from tornado_members.settings.reflection import (
    allowed_values,
    is_map,
    nested_section,
    section_within,
)


@pytest.mark.parametrize(
    "file", settings_reference.FILES, ids=lambda file: str(file.relative_to(ROOT))
)
def test_reference_is_up_to_date(file: Path) -> None:
    assert file.read_text() == settings_reference.FILES[file](), "run scripts/settings-reference"


def test_reference_has_every_setting() -> None:
    text = settings_reference.markdown()
    for path in paths(Settings):
        assert text.count(f"| `{path}` |") == 1, path


def paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the key of every setting that has a value of its own."""
    found = []
    for name in model.model_fields:
        inner = nested_section(model, name)
        path = f"{prefix}{name}"
        named = ".NAME" if inner and is_map(model.model_fields[name].annotation) else ""
        found += paths(inner, f"{path}{named}.") if inner else [path]
    return found


def test_reference_describes_every_setting_in_a_sentence() -> None:
    for path in paths(Settings):
        model: type[BaseModel] = Settings
        *sections, name = path.replace(".NAME", "").split(".")
        for section in sections:
            model = section_within(model.model_fields[section].annotation) or model
        description = model.model_fields[name].description or ""
        assert description[:1].isupper(), path
        assert description.endswith("."), path
        if unit := {"ms": "milliseconds", "seconds": "seconds", "mib": "MiB", "days": "days"}.get(
            name.rpartition("_")[2]
        ):
            assert unit in description, f"{path} has no unit"


def test_allowed_values_come_from_the_type() -> None:
    class Example(BaseModel):
        port: int = Field(ge=0, le=65535)
        seconds: float = Field(gt=0, le=3600)
        count: int = Field(ge=1)
        flag: bool
        file: Path | None
        names: tuple[str, ...]

    described = [allowed_values(Example, name) for name in Example.model_fields]
    assert described == [
        "integer, 0 to 65535",
        "number above 0, at most 3600",
        "integer, at least 1",
        "`true` or `false`",
        "path or `null`",
        "list of text",
    ]
