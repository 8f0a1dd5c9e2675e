"""Loading the settings: a YAML file, the environment over it, and messages about errors."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError as VariableError

from tornado_members.settings.attribute_checks import attribute_faults
from tornado_members.settings.reflection import allowed_values, is_map, section_within
from tornado_members.settings.schema import ENV_PREFIX, Settings
from tornado_members.settings.types import Section, SettingsError, base_folder

DEFAULT_FILE = Path("settings.yaml")  # in the working directory, and optional

# Kubernetes sets these in every pod beside a Service called "members".
_KUBERNETES_ENV = re.compile(r"MEMBERS_(SERVICE_(HOST|PORT)|PORT_[0-9]+_|PORT=[a-z]+://)")


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """The origin of a command's settings, from which they can be loaded again."""

    file: Path | None = None
    data_dir: Path | None = None

    def load(self) -> Settings:
        """Load the settings. Raises SettingsError."""
        return load_settings(self.file, data_dir=self.data_dir)


def load_settings(file: Path | None = None, *, data_dir: Path | None = None) -> Settings:
    """Load the settings from a file and the environment, which overrides it.

    Without `file`, it is settings.yaml in the working directory; if there is none, the built-in
    defaults apply. `data_dir` overrides both the file and the environment.

    Raises SettingsError with every error found.
    """
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    values = {} if file is None else _read(file)
    token = base_folder.set((file or DEFAULT_FILE).absolute().parent)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        faults = [_describe(e) for e in [e for e in errors if not _echoes(e)] or errors]
    except VariableError:
        variables = [name for name in sorted(os.environ) if name.upper().startswith(ENV_PREFIX)]
        names = ", ".join(variables)
        faults = [f"environment: lists and maps must be JSON; one of these is not: {names}"]
    else:
        faults = list(_contradictions(settings))
    finally:
        base_folder.reset(token)
    faults += _unknown_variables()
    if faults:
        where = file or "environment"
        raise SettingsError("\n  ".join([f"Invalid settings ({where}):", *faults]))
    if data_dir is None:
        return settings
    return settings.model_copy(update={"data_dir": data_dir.expanduser().absolute()})


class _StrictLoader(yaml.SafeLoader):
    """A YAML loader that rejects duplicate keys, of which the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as stream:
            values = yaml.load(stream, _StrictLoader)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    except yaml.composer.ComposerError as error:
        # PyYAML's message has the alias, which may be a secret that begins with an asterisk.
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SettingsError(
            f"{file} is not valid YAML: line {line}: put text that begins with * in quotes"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"{file} is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(re.match("[a-z]", str(key)) for key in values):
        raise SettingsError(f"{file} must be a map of settings, such as 'server: {{port: 9000}}'")
    return values


def _unknown_variables() -> Iterator[str]:
    known = [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENV_PREFIX):
            continue
        if _KUBERNETES_ENV.match(f"{variable}={os.environ[variable]}"):
            continue
        if variable.upper().partition("__")[0] not in known:
            yield f"{variable} (environment): unknown setting{_suggest(variable, known)}"


def _describe(error: ErrorDetails) -> str:
    """Describe an error in one line: the key, its source, its value and the values allowed."""
    path: list[str] = []
    model: type[BaseModel] = Settings
    known = list(Settings.model_fields)
    allowed = ""
    in_map = False
    for part in error["loc"]:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner, in_map = section_within(annotation), is_map(annotation)
            allowed = "" if inner else allowed_values(model, part)
            model = inner or Section
            known = list(model.model_fields)
        elif (
            error["type"] != "extra_forbidden"
            and not isinstance(part, int)
            and model is Section
            and not in_map
        ):
            continue  # a branch of a union, which the file does not contain
        path.append(str(part))
    key = ".".join(path)
    variable = ENV_PREFIX + "__".join(path).upper()
    source = f" (environment: {variable})" if variable in map(str.upper, os.environ) else ""
    if error["type"] == "extra_forbidden":
        return f"{key}{source}: unknown setting{_suggest(path[-1], known)}"
    if error["type"] == "missing":
        return f"{key}: is missing ({allowed})"
    if path[-1].isdigit():  # an item of a list; the values allowed are those of the whole list
        allowed = ""
    hint = f" (allowed: {allowed})" if allowed else ""
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], BaseModel | dict):
        return f"{key}{source}: {message}{hint}"
    is_uri = "://" in str(error["input"]) and "@" in str(error["input"])
    is_secret = is_uri or path[-1] in ("uri", "secret")
    was = "a secret" if is_secret else repr(error["input"])
    return f"{key}{source}: was {was}; {message[:1].lower()}{message[1:]}{hint}"


def _echoes(error: ErrorDetails) -> bool:
    """Return True if an error repeats another: a union's other branch, or a list's length."""
    value = error["input"]
    return (
        (error["type"] == "literal_error" and isinstance(value, list))
        or (error["type"] == "tuple_type" and isinstance(value, str))
        or (error["type"] == "too_short" and bool(value))
    )


def _suggest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yield errors of values that are valid alone and not in combination."""
    cache, longest = settings.cache, settings.mongodb.timeout_ms
    if cache.servers and cache.timeout_ms > longest:
        yield (
            f"cache.timeout_ms: was {cache.timeout_ms}; should be at most {longest}, which is "
            "mongodb.timeout_ms: a write sends several commands to the cache before it commits, "
            "and tombstones last only a little longer than the commit may take"
        )
    least = cache.heartbeat_ms / 2 + 3 * cache.timeout_ms
    if cache.servers and cache.return_ms < least:
        yield (
            f"cache.return_ms: was {cache.return_ms}; should be at least {least:g}, half of "
            "cache.heartbeat_ms plus three times cache.timeout_ms: every service may take that "
            "long to notice that a node is back"
        )
    yield from attribute_faults(settings.members.attributes)
