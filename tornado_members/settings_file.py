"""Reading the settings: a YAML file, the environment over it, and clear words for what is wrong."""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError as VariableError

from tornado_members.settings import ENV_PREFIX, Section, Settings, SettingsError, folder

DEFAULT_FILE = Path(__file__).parent.parent / "settings.yaml"

# What Kubernetes puts into every pod beside a Service that is called "members".
_KUBERNETES_ENV = re.compile(r"MEMBERS_(SERVICE_(HOST|PORT)|PORT_[0-9]+_|PORT=[a-z]+://)")


def load_settings(file: Path = DEFAULT_FILE) -> Settings:
    """Read a settings file and the environment.

    Raises SettingsError with everything that is wrong.
    """
    values = _read(file)
    token = folder.set(file.absolute().parent)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults = [_describe(e) for e in error.errors(include_url=False) if not _echoes(e)]
    except VariableError:
        given = ", ".join(
            name for name in sorted(os.environ) if name.upper().startswith(ENV_PREFIX)
        )
        faults = [f"environment: maps and lists should be JSON, and one of these is not: {given}"]
    else:
        faults = list(_contradictions(settings))
    finally:
        folder.reset(token)
    faults += _unknown_variables()
    if faults:
        raise SettingsError("\n  ".join([f"The settings ({file}) cannot be used:", *faults]))
    return settings


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key may not stand twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open(encoding="utf-8") as stream:
            values = yaml.load(stream, _StrictLoader)  # noqa: S506
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    except yaml.composer.ComposerError as error:
        # It says the name, which may be a secret that begins with a star.
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SettingsError(
            f"{file} is not YAML: line {line}: a text with * goes in quotes"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"{file} is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(re.match("[a-z]", str(key)) for key in values):
        raise SettingsError(f"{file} should be a map of settings, such as 'server: {{port: 9000}}'")
    return values


def _unknown_variables() -> Iterator[str]:
    known = [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENV_PREFIX):
            continue
        if _KUBERNETES_ENV.match(f"{variable}={os.environ[variable]}"):
            continue
        if variable.upper().partition("__")[0] not in known:
            yield f"{variable} (environment): is not a setting{_did_you_mean(variable, known)}"


def _describe(error: ErrorDetails) -> str:
    """One line: the key, where it was set, what it was, and what it may be."""
    path: list[str] = []
    model: type[BaseModel] = Settings
    field: FieldInfo | None = None
    known = list(Settings.model_fields)
    for part in error["loc"]:
        if isinstance(part, str) and part in model.model_fields:
            field = model.model_fields[part]
            inner = model_within(field.annotation)
            model = inner or Section
            known = list(model.model_fields)
        elif error["type"] != "extra_forbidden" and not isinstance(part, int) and model is Section:
            continue  # a branch of a union, which is ours and not the reader's
        path.append(str(part))
    key = ".".join(path)
    variable = ENV_PREFIX + "__".join(path).upper()
    source = f" (environment: {variable})" if variable in map(str.upper, os.environ) else ""
    if error["type"] == "extra_forbidden":
        return f"{key}{source}: is not a setting{_did_you_mean(path[-1], known)}"
    if error["type"] == "missing":
        return f"{key}: is missing ({field.description if field else ''})"
    is_item = path[-1].isdigit()  # the description is that of the whole list
    may_be = f" ({field.description})" if field and field.description and not is_item else ""
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], BaseModel | dict):
        return f"{key}{source}: {message}{may_be}"
    is_uri = "://" in str(error["input"]) and "@" in str(error["input"])
    is_secret = is_uri or path[-1] in ("uri", "secret")
    was = "a secret" if is_secret else repr(error["input"])
    return f"{key}{source}: was {was}; {message[:1].lower()}{message[1:]}{may_be}"


def _echoes(error: ErrorDetails) -> bool:
    """Whether an error only repeats another: a union's other branch, a list of faults alone."""
    given = error["input"]
    return (
        (error["type"] == "literal_error" and isinstance(given, list))
        or (error["type"] == "tuple_type" and isinstance(given, str))
        or (error["type"] == "too_short" and bool(given))
    )


def model_within(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `Jwks | None` or `tuple[Issuer, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := model_within(a))), None)


def _did_you_mean(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; it may be one of {', '.join(known)}"


def _contradictions(settings: Settings) -> Iterator[str]:
    """Values that are right each for itself, and wrong together."""
    cache = settings.cache
    least = cache.heartbeat_ms / 2 + 3 * cache.timeout_ms
    if cache.protocol == "leases" and cache.servers and cache.return_ms < least:
        yield (
            f"cache.return_ms: was {cache.return_ms}; should be at least {least:g}, half of "
            "cache.heartbeat_ms and three times cache.timeout_ms: so long it may take until every "
            "service has noticed that a node is back"
        )
