"""The settings: settings.yaml, then the environment over it; typed, frozen, and loud when wrong."""

import os
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as VariableError

from tornado_members.errors import OperatorError

ENV_PREFIX = "MEMBERS_"
DEFAULT_FILE = Path(__file__).parent.parent / "settings.yaml"

# What Kubernetes puts into every pod beside a Service that is called "members".
_KUBERNETES_ENV = re.compile(r"MEMBERS_(SERVICE_|PORT)")

# Relative paths in the settings are relative to the folder of the settings file being read.
_folder: ContextVar[Path] = ContextVar("_folder")


class SettingsError(OperatorError):
    """The settings cannot be used. Its text names each wrong key, its value and what it may be."""


def _absolute(path: Path) -> Path:
    return _folder.get(Path.cwd()) / path.expanduser()


_HOST_PORT = re.compile(r"(?P<host>[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


def _host_port(text: str) -> str:
    match = _HOST_PORT.fullmatch(text)
    if not match or not 0 < int(match["port"]) <= 65535:
        raise ValueError("should be host:port, such as 127.0.0.1:11211 or [::1]:11211")
    return text


FilePath = Annotated[Path, AfterValidator(_absolute)]
HostPort = Annotated[str, AfterValidator(_host_port)]
Port = Annotated[int, Field(ge=0, le=65535)]
Permission = Literal["members:read", "members:write", "members:delete"]
Algorithm = Literal["RS256", "ES256", "EdDSA"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Section):
    """Where the service listens."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: Port = Field(8888, description="TCP port, 0 to 65535; 0 takes a free one")
    processes: int = Field(1, ge=0, description="worker processes; 0 means one a core")
    transport: Literal["tornado", "fast"] = Field("tornado", description="HTTP server underneath")
    drain_seconds: float = Field(
        5, ge=0, le=300, description="seconds that requests in flight have to end at a stop"
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="addresses whose X-Forwarded-For is believed"
    )


class Admin(_Section):
    """The listener for probes and metrics."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: Port = Field(8889, description="TCP port, 0 to 65535; 0 takes a free one")


class MongoDB(_Section):
    """Where members are kept."""

    uri: SecretStr = Field(
        SecretStr("embedded"), description="embedded (a private server), or mongodb://..."
    )
    uri_file: FilePath | None = Field(
        None, description="a file that holds the URI, instead of mongodb.uri"
    )
    database: str = Field(
        "members", pattern=r'^[^/\\. "$*<>:|?\x00]{1,63}$', description="name of the database"
    )
    driver: Literal["motor", "pymongo"] = Field("motor", description="the client library")
    timeout_ms: int = Field(
        2000, ge=1, le=600_000, description="milliseconds that one operation may take"
    )

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: SecretStr) -> SecretStr:
        if not re.match(r"(embedded$|mongodb(\+srv)?://)", uri.get_secret_value()):
            raise ValueError("should be 'embedded' or start with mongodb://")
        return uri

    @property
    def embedded(self) -> bool:
        """Whether a private server is wanted."""
        return self.uri_file is None and self.uri.get_secret_value() == "embedded"

    def connection_uri(self) -> str:
        """The URI itself. Raises SettingsError when its file cannot be read."""
        if self.uri_file is None:
            return self.uri.get_secret_value()
        try:
            return self.uri_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"mongodb.uri_file: {self.uri_file}: {error}") from None


class Cache(_Section):
    """Memcached, in front of reads."""

    servers: Literal["embedded"] | tuple[HostPort, ...] = Field(
        "embedded", description="embedded (a private server), or a list of host:port; [] for none"
    )
    ttl_seconds: int = Field(
        300, ge=1, le=30 * 86400, description="seconds that an entry lives, at most 30 days"
    )
    timeout_ms: int = Field(
        100, ge=1, le=60_000, description="milliseconds that one operation may take"
    )
    heartbeat_ms: int = Field(
        200, ge=1, le=60_000, description="milliseconds within which each node is heard from"
    )
    return_ms: int = Field(
        1000, ge=1, le=600_000, description="milliseconds a node must answer before it is read"
    )
    protocol: Literal["leases", "naive"] = Field("leases", description="how entries are kept true")
    require_for_writes: bool = Field(
        False, description="refuse writes that cannot be announced to the cache"
    )


class Jwks(_Section):
    """Where an issuer's public keys are: exactly one of the three."""

    file: FilePath | None = Field(None, description="a JSON file that holds the key set (RFC 7517)")
    url: str | None = Field(None, pattern="^https?://", description="an address to fetch it from")
    keys: tuple[dict[str, Any], ...] | None = Field(None, description="the keys themselves")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Jwks":
        if sum(source is not None for source in (self.file, self.url, self.keys)) != 1:
            raise ValueError("should have exactly one of file, url and keys")
        return self


class Issuer(_Section):
    """Somebody whose tokens are accepted."""

    issuer: str = Field(min_length=1, description="the iss claim of its tokens")
    audience: str = Field(min_length=1, description="the aud claim of tokens meant for us")
    algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "ES256", "EdDSA"),
        min_length=1,
        description="signature algorithms that are accepted",
    )
    jwks: Jwks | None = Field(
        None, description="its keys; for auth.own_issuer by default <data_dir>/keys/jwks.json"
    )


class Permissions(_Section):
    """What a claim of a token allows."""

    access_rights: dict[int, tuple[Permission, ...]] = Field(
        {
            0: (),
            1: ("members:read",),
            2: ("members:read", "members:write"),
            3: ("members:read", "members:write", "members:delete"),
        },
        description="the numeric claim access_rights, to what it allows; nothing means blocked",
    )
    scope: dict[str, tuple[Permission, ...]] = Field(
        {name: (name,) for name in get_args(Permission)},
        description="a word of the claim scope, to what it allows",
    )


class Auth(_Section):
    """Whose tokens are accepted, and what they allow."""

    issuers: tuple[Issuer, ...] = Field(
        (Issuer(issuer="tornado-members", audience="members"),),
        min_length=1,
        description="everybody whose tokens are accepted",
    )
    own_issuer: str = Field(
        "tornado-members",
        description="the issuer for which scripts/token signs; its key is made on the first run",
    )
    leeway_seconds: int = Field(
        30, ge=0, le=300, description="seconds that clocks may differ when times are checked"
    )
    max_lifetime_seconds: int = Field(
        86400, ge=1, description="seconds that may lie between a token's iat and exp"
    )
    permissions: Permissions = Field(Permissions(), description="claims, to what they allow")

    @model_validator(mode="after")
    def _distinct(self) -> "Auth":
        names = [issuer.issuer for issuer in self.issuers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"auth.issuers has {name!r} more than once")
        return self


class Login(_Section):
    """Tokens for those who have no issuer of their own."""

    enabled: bool = Field(True, description="whether POST /login is there")
    token_seconds: int = Field(900, ge=1, le=86400, description="seconds that a token lives")


class Members(_Section):
    """Rules of the members' resource."""

    require_if_match: bool = Field(False, description="refuse writes without If-Match")


class Audit(_Section):
    """Who changed what."""

    enabled: bool = Field(False, description="whether changes are recorded")
    keep_days: int = Field(365, ge=1, description="days that a record is kept")


class Settings(BaseSettings):
    """Every setting. settings.yaml has them all, with comments."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
    )

    data_dir: FilePath = Field(
        Path(".data"),
        validate_default=True,
        description="folder of the private servers' data and of the first run's keys",
    )
    server: Server = Server()
    admin: Admin = Admin()
    mongodb: MongoDB = MongoDB()
    cache: Cache = Cache()
    auth: Auth = Auth()
    login: Login = Login()
    members: Members = Members()
    audit: Audit = Audit()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first: it overrides what the file says, key by key."""
        return env_settings, init_settings

    def own_jwks_file(self) -> Path | None:
        """Where the own issuer's public keys are, unless they are not in a file."""
        for issuer in self.auth.issuers:
            if issuer.issuer == self.auth.own_issuer:
                return issuer.jwks.file if issuer.jwks else self.data_dir / "keys" / "jwks.json"
        return None


def load_settings(file: Path = DEFAULT_FILE) -> Settings:
    """Read a settings file and the environment.

    Raises SettingsError with everything that is wrong.
    """
    values = _read(file)
    folder = _folder.set(file.absolute().parent)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults = [_describe(e) for e in error.errors(include_url=False) if not _echoes(e)]
    except VariableError as error:
        faults = [f"environment: {error} (maps and lists should be JSON)"]
    else:
        faults = list(_not_built_yet(settings))
    finally:
        _folder.reset(folder)
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
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise SettingsError(f"{file} is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(re.match("[a-z]", str(key)) for key in values):
        raise SettingsError(f"{file} should be a map of settings, such as 'server: {{port: 9000}}'")
    return values


def _unknown_variables() -> Iterator[str]:
    known = [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for variable in sorted(os.environ):
        if not variable.upper().startswith(ENV_PREFIX) or _KUBERNETES_ENV.match(variable.upper()):
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
            inner = _model_within(field.annotation)
            model = inner or _Section
            known = list(model.model_fields)
        elif error["type"] != "extra_forbidden" and not isinstance(part, int) and model is _Section:
            continue  # a branch of a union, which is ours and not the reader's
        path.append(str(part))
    key = ".".join(path)
    variable = ENV_PREFIX + "__".join(path).upper()
    source = f" (environment: {variable})" if variable in map(str.upper, os.environ) else ""
    if error["type"] == "extra_forbidden":
        return f"{key}{source}: is not a setting{_did_you_mean(path[-1], known)}"
    if error["type"] == "missing":
        return f"{key}: is missing ({field.description if field else ''})"
    may_be = f" ({field.description})" if field and field.description else ""
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], BaseModel | dict):
        return f"{key}{source}: {message}{may_be}"
    was = "a secret" if path[-1] == "uri" else repr(error["input"])
    return f"{key}{source}: was {was}; {message[:1].lower()}{message[1:]}{may_be}"


def _echoes(error: ErrorDetails) -> bool:
    """Whether an error only repeats another: a union's other branch, a list of faults alone."""
    given = error["input"]
    return (
        (error["type"] == "literal_error" and isinstance(given, list))
        or (error["type"] == "tuple_type" and isinstance(given, str))
        or (error["type"] == "too_short" and bool(given))
    )


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `Jwks | None` or `tuple[Issuer, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_within(a))), None)


def _did_you_mean(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; it may be one of {', '.join(known)}"


def _not_built_yet(settings: Settings) -> Iterator[str]:
    """What has its name and is still to be made must not be silently idle."""
    wanted: Mapping[str, bool] = {
        "server.processes: may only be 1": settings.server.processes != 1,
        "server.transport: may only be tornado": settings.server.transport != "tornado",
        "server.trusted_proxies: may only be []": bool(settings.server.trusted_proxies),
        "cache.require_for_writes: may only be false": settings.cache.require_for_writes,
        "members.require_if_match: may only be false": settings.members.require_if_match,
        "audit.enabled: may only be false": settings.audit.enabled,
    }
    for sentence, is_wanted in wanted.items():
        if is_wanted:
            yield f"{sentence} as yet"
    for i, issuer in enumerate(settings.auth.issuers):
        own = issuer.issuer == settings.auth.own_issuer
        if (issuer.jwks is None and not own) or (issuer.jwks and issuer.jwks.url):
            yield f"auth.issuers.{i}.jwks: may only have file or keys as yet"
