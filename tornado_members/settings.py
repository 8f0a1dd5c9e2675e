"""The shape of the settings: every key with its type, its range, its default and its meaning.

How they are read, and what is said of wrong ones, is in settings_file.py.
"""

import re
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tornado_members.errors import OperatorError

ENV_PREFIX = "MEMBERS_"

# Relative paths in the settings are relative to the folder of the settings file being read.
folder: ContextVar[Path] = ContextVar("folder")


class SettingsError(OperatorError):
    """The settings cannot be used. Its text names each wrong key, its value and what it may be."""


def _absolute(path: Path) -> Path:
    if path == Path() or "\0" in str(path):
        raise ValueError("should be the path of a file or folder")
    try:
        return folder.get(Path.cwd()) / path.expanduser()
    except RuntimeError as error:  # ~somebody who is not there
        raise ValueError(str(error)) from None


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


class Section(BaseModel):
    """A part of the settings: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
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


class Admin(Section):
    """The listener for probes and metrics."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: Port = Field(8889, description="TCP port, 0 to 65535; 0 takes a free one")


class MongoDB(Section):
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


class Cache(Section):
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


class Jwks(Section):
    """Where an issuer's public keys are: exactly one of the three."""

    file: FilePath | None = Field(None, description="a JSON file that holds the key set (RFC 7517)")
    url: str | None = Field(None, pattern="^https?://", description="an address to fetch it from")
    keys: tuple[dict[str, Any], ...] | None = Field(None, description="the keys themselves")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Jwks":
        if sum(source is not None for source in (self.file, self.url, self.keys)) != 1:
            raise ValueError("should have exactly one of file, url and keys")
        return self


class Issuer(Section):
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


class Permissions(Section):
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


class Auth(Section):
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


class Login(Section):
    """Tokens for those who have no issuer of their own."""

    enabled: bool = Field(True, description="whether POST /login is there")
    token_seconds: int = Field(900, ge=1, le=86400, description="seconds that a token lives")


class Members(Section):
    """Rules of the members' resource."""

    require_if_match: bool = Field(False, description="refuse writes without If-Match")


class Audit(Section):
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
