"""Generate docs/settings.md and settings.yaml from the schema of the settings.

Run scripts/settings-reference after a change of tornado_members/settings/; a test compares.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from tornado_members.settings import Settings
from tornado_members.settings.reflection import allowed_values, field_schema, nested_section

ROOT = Path(__file__).parent.parent
WIDTH = 100

MARKDOWN_HEAD = """\
# Settings

This page is generated from `tornado_members/settings/`. Change the descriptions there, then run
`scripts/settings-reference`.

**Sources**, in ascending order of precedence:

1. The built-in defaults.
2. A YAML file: `--config FILE`, or `settings.yaml` in the working directory if it exists.
   [settings.yaml](../settings.yaml) contains every setting with its default.
3. The environment: `MEMBERS_<SECTION>__<KEY>` sets one key. Lists and maps are JSON.
4. `--data-dir DIR`, which sets `data_dir`.

```sh
MEMBERS_SERVER__PORT=9000 MEMBERS_CACHE__SERVERS='["10.0.0.5:11211"]' tornado-members serve
```

**Errors.** Unknown keys and invalid values stop the start. The message lists each of them with its
value and the values allowed.

**Paths.** A relative path is relative to the folder of the settings file. Without a file, it is
relative to the working directory.

**Reload.** On SIGHUP the service [loads the settings again](operations.md#reload).
"""

YAML_HEAD = """\
# All settings of the members service, with their defaults.
# Generated from tornado_members/settings/ by scripts/settings-reference, like docs/settings.md.
#
# Another file:     every command takes --config FILE.
# The environment:  MEMBERS_<SECTION>__<KEY> overrides a key of this file. Lists and maps are JSON:
#                   MEMBERS_SERVER__PORT=9000
#                   MEMBERS_CACHE__SERVERS='["10.0.0.5:11211", "10.0.0.6:11211"]'
# Relative paths are relative to the folder of this file.
# Unknown keys and invalid values stop the start.
"""


@dataclass(frozen=True)
class Setting:
    """One setting, or a list of sections such as auth.issuers."""

    model: type[BaseModel]
    name: str
    default: Any

    @property
    def section(self) -> type[BaseModel] | None:
        """The section that is its value, or the items of its value."""
        return nested_section(self.model, self.name)

    @property
    def is_list_of_sections(self) -> bool:
        """True if its value is a list of sections."""
        return self.section is not None and isinstance(self.default, tuple)

    @property
    def is_map_of_sections(self) -> bool:
        """True if its value is a map of sections, whose names the operator chooses."""
        return self.section is not None and isinstance(self.default, dict)

    @property
    def has_value(self) -> bool:
        """True if the settings show a value of its own."""
        return self.section is None or self.is_list_of_sections or self.is_map_of_sections

    @property
    def description(self) -> str:
        """Its description, in Markdown."""
        if description := self.model.model_fields[self.name].description:
            return description
        assert self.section is not None, f"{self.name} has no description"
        return summary(self.section)

    @property
    def values(self) -> str:
        """The values allowed, in Markdown."""
        if self.is_list_of_sections:
            return "list of maps with the following keys"
        if self.is_map_of_sections:
            return "map of names to maps"
        return allowed_values(self.model, self.name)

    @property
    def page(self) -> str | None:
        """A link to more about it, relative to docs/."""
        return field_schema(self.model, self.name).get("see")


def summary(model: type[BaseModel]) -> str:
    """Return a section's docstring, in one line."""
    return " ".join((model.__doc__ or "").split())


def settings_of(model: type[BaseModel], defaults: BaseModel | None = None) -> list[Setting]:
    """Return the settings of a section with their defaults."""
    return [
        Setting(model, name, getattr(defaults, name) if defaults else field.get_default())
        for name, field in model.model_fields.items()
    ]


def plain(value: Any) -> Any:
    """Return a default as YAML and JSON hold it."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return value.name  # data_dir, the only path that has a default
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case tuple():
            return [plain(item) for item in value]
    return value


def flow(value: Any) -> str:
    """Return a value as YAML writes it in one line."""
    text = yaml.safe_dump(plain(value), default_flow_style=True, width=10**6, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    return re.sub("^'(.*)'$", r'"\1"', text)


def markdown() -> str:
    """Return docs/settings.md."""
    return "\n".join([MARKDOWN_HEAD, *_markdown_section(Settings, Settings(), "", "General")])


def _markdown_section(
    model: type[BaseModel], defaults: BaseModel | None, prefix: str, title: str
) -> Iterator[str]:
    settings = settings_of(model, defaults)
    rows = [_markdown_row(setting, prefix) for setting in settings if setting.has_value]
    if rows:
        yield f"## {title}\n"
        if prefix:
            yield f"{summary(model)}\n"
        yield "| key | default | values | meaning |\n|---|---|---|---|"
        yield "\n".join(rows) + "\n"
    for setting in settings:
        if setting.section is not None:
            path = f"{prefix}{setting.name}"
            inner = setting.default[0] if setting.is_list_of_sections else setting.default
            if setting.is_map_of_sections:
                path, inner = f"{path}.NAME", None
            yield from _markdown_section(setting.section, inner, f"{path}.", f"`{path}`")


def _markdown_row(setting: Setting, prefix: str) -> str:
    cells = [
        f"`{prefix}{setting.name}`",
        _markdown_default(setting),
        _cell(setting.values),
        _meaning(setting),
    ]
    return f"| {' | '.join(cells)} |"


def _markdown_default(setting: Setting) -> str:
    if setting.is_list_of_sections:
        return "one issuer, as below"
    if setting.default is PydanticUndefined:
        return "required"
    if isinstance(setting.default, dict) and setting.default:
        return "see [settings.yaml](../settings.yaml)"
    return f"`{_cell(flow(setting.default))}`"


def _meaning(setting: Setting) -> str:
    more = f" [More]({setting.page})." if setting.page else ""
    return _cell(setting.description) + more


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def settings_yaml() -> str:
    """Return settings.yaml."""
    return "\n".join([YAML_HEAD.rstrip(), *_yaml_section(Settings, Settings(), "")]) + "\n"


def _yaml_section(model: type[BaseModel], defaults: BaseModel, indent: str) -> Iterator[str]:
    for number, setting in enumerate(settings_of(model, defaults)):
        if not indent or number:
            yield ""
        yield from _comment(setting, indent)
        if setting.section is None or setting.is_map_of_sections:
            yield from _yaml_value(setting, indent)
        elif setting.is_list_of_sections:
            yield f"{indent}{setting.name}:"
            item = list(_yaml_section(setting.section, setting.default[0], f"{indent}    "))
            first = next(i for i, line in enumerate(item) if not line.lstrip().startswith("#"))
            item[first] = f"{indent}  - {item[first].lstrip()}"
            yield from item
        else:
            yield f"{indent}{setting.name}:"
            yield from _yaml_section(setting.section, setting.default, f"{indent}  ")


def _yaml_value(setting: Setting, indent: str) -> Iterator[str]:
    if not isinstance(setting.default, dict) or not setting.default:
        yield f"{indent}{setting.name}: {flow(setting.default)}"
        return
    yield f"{indent}{setting.name}:"
    for key, value in plain(setting.default).items():
        name = json.dumps(key) if isinstance(key, str) else key
        yield f"{indent}  {name}: {json.dumps(value)}"


def _comment(setting: Setting, indent: str) -> Iterator[str]:
    text = setting.description
    if setting.section is None or setting.is_map_of_sections:
        text = f"{text.rstrip()} Values: {setting.values}."
    if setting.page:
        text += f" See docs/{setting.page}."
    for line in textwrap.wrap(text.replace("`", ""), WIDTH - len(indent), break_on_hyphens=False):
        yield f"{indent}# {line}"


FILES = {ROOT / "docs" / "settings.md": markdown, ROOT / "settings.yaml": settings_yaml}


def main() -> int:
    """Write both files."""
    for file, generate in FILES.items():
        file.write_text(generate(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
