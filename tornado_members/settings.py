"""The shape of the settings: every key with its type, its range, its default and its meaning.

How they are read, and what is said of wrong ones, is in settings_file.py.
"""

import re
from contextvars import ContextVar
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

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


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_HOST_PORT = re.compile(r"(?P<host>[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


def _host_port(text: str) -> str:
    match = _HOST_PORT.fullmatch(text)
    if not match or not 0 < int(match["port"]) <= 65535:
        raise ValueError("should be host:port, such as 127.0.0.1:11211 or [::1]:11211")
    return text


def is_safe_url(text: str) -> bool:
    """Whether keys may be fetched from there: by TLS, or from this machine itself."""
    try:
        url = urlsplit(text)
        host, _ = url.hostname or "", url.port
    except ValueError:
        return False
    if not host or "@" in url.netloc or url.fragment or not text.isprintable() or " " in text:
        return False
    return url.scheme == "https" or (url.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _safe_url(text: str) -> str:
    if not is_safe_url(text):
        raise ValueError("should be https://..., or http://... on this machine itself")
    return text


def _collector_url(text: str) -> str:
    try:
        url = urlsplit(text)
        is_fit = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        is_fit = False
    if not is_fit or "@" in url.netloc or url.query or url.fragment or not text.isprintable():
        raise ValueError("should be http://host:port or https://host:port, and have no password")
    return text


def _proxy(text: str) -> str:
    if text != "unix":
        try:
            ip_network(text)
        except ValueError:
            raise ValueError(
                "should be an address or a network, such as 10.0.0.5 or 10.0.0.0/8, or unix"
            ) from None
    return text


def _origin(text: str) -> str:
    """A web origin, as browsers write it: in lower case, without a path or the scheme's own port.

    RFC 6454 §6.2. Another spelling would never be equal to what a browser sends.
    """
    if text.startswith("http://") and text.endswith(":80"):
        raise ValueError("should be without :80, as browsers write it")
    if text.startswith("https://") and text.endswith(":443"):
        raise ValueError("should be without :443, as browsers write it")
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise ValueError("should be *, or an origin in lower case such as https://app.example.org")
    return text


FilePath = Annotated[Path, AfterValidator(_absolute)]
Origin = Annotated[str, AfterValidator(_origin)]
HostPort = Annotated[str, AfterValidator(_host_port)]
Port = Annotated[int, Field(ge=0, le=65535)]
Permission = Literal["members:read", "members:write", "members:delete"]
Algorithm = Literal["RS256", "ES256", "EdDSA", "HS256"]
PublicAlgorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
LEAST_SECRET = 32  # bytes (RFC 7518 §3.2)


class Section(BaseModel):
    """A part of the settings: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tls(Section):
    """What the service proves itself with; without it, it speaks plain HTTP."""

    certificate: FilePath | None = Field(
        None, description="a PEM file: the certificate, and those that lead to its root"
    )
    key: FilePath | None = Field(None, description="a PEM file with its private key")

    @model_validator(mode="after")
    def _both(self) -> "Tls":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("should have both certificate and key, or neither")
        return self


class Limits(Section):
    """How much of a worker one client, or all of them, may take."""

    connections: int = Field(
        4096, ge=1, description="open connections, as far as the limit on open files allows"
    )
    requests: int = Field(1024, ge=1, description="requests in flight; what is more is a 503")
    header_bytes: int = Field(16 * 1024, ge=256, le=1024 * 1024, description="bytes of a header")
    header_seconds: float = Field(10, gt=0, le=3600, description="seconds a header may take")
    body_seconds: float = Field(
        10, gt=0, le=3600, description="seconds a body may take, and one more a KiB"
    )
    idle_seconds: float = Field(
        60, gt=0, le=86400, description="seconds that a connection may be silent between requests"
    )
    write_seconds: float = Field(
        30, gt=0, le=3600, description="seconds without a client taking any of its answer"
    )
    request_seconds: float = Field(
        10, gt=0, le=3600, description="seconds until an answer begins, or else is a 503"
    )


class Server(Section):
    """Where the service listens, and how."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: Port = Field(8888, description="TCP port, 0 to 65535; 0 takes a free one")
    unix_socket: FilePath | None = Field(
        None, description="path of a Unix socket to listen on, instead of host and port"
    )
    unix_socket_mode: str = Field(
        "0660", pattern="^0[0-7]{3}$", description='who may connect to it, such as "0660"'
    )
    tls: Tls = Field(Tls(), description="certificate and key")
    processes: int = Field(1, ge=0, description="worker processes; 0 means one a core")
    transport: Literal["fast", "tornado"] = Field("fast", description="HTTP server underneath")
    unready_seconds: float = Field(
        0,
        ge=0,
        le=300,
        description="seconds of being 'not ready' and still listening, at a stop",
    )
    drain_seconds: float = Field(
        5, ge=0, le=300, description="seconds that requests in flight have to end at a stop"
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_proxy)], ...] = Field(
        (), description="addresses and networks whose X-Forwarded-For is believed, or unix"
    )
    limits: Limits = Field(Limits(), description="how much may be taken")


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
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"mongodb.uri_file: {self.uri_file}: {reason}") from None


class Cache(Section):
    """Memcached, in front of reads."""

    servers: Literal["embedded"] | tuple[HostPort, ...] = Field(
        "embedded",
        description='embedded (a private server), or a list: ["127.0.0.1:11211"]; [] for none',
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
    url: Annotated[str, AfterValidator(_safe_url)] | None = Field(
        None, description="an address to fetch it from"
    )
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
        PublicAlgorithms, min_length=1, description="signature algorithms that are accepted"
    )
    jwks: Jwks | None = Field(
        None,
        description="its keys; null: for auth.own_issuer <data_dir>/keys/jwks.json, for others "
        "what <issuer>/.well-known/openid-configuration leads to",
    )
    secret: SecretStr | None = Field(
        None, description=f"for HS256 alone: a secret of at least {LEAST_SECRET} bytes"
    )
    secret_file: FilePath | None = Field(
        None, description="a file that holds the secret, instead of secret"
    )

    @model_validator(mode="after")
    def _secret_or_public(self) -> "Issuer":
        has_secret = self.secret is not None or self.secret_file is not None
        if self.secret is not None and self.secret_file is not None:
            raise ValueError("should have either secret or secret_file")
        if "HS256" in self.algorithms and not has_secret:
            raise ValueError("should have a secret, or a secret_file, for HS256")
        if has_secret and (self.jwks is not None or set(self.algorithms) != {"HS256"}):
            raise ValueError("should have, with a secret, the algorithms [HS256] and no jwks")
        if self.secret is not None:
            _check_secret(self.secret.get_secret_value())
        return self

    def shared_secret(self) -> str | None:
        """The secret, where there is one. Raises SettingsError for a file that holds none."""
        if self.secret_file is None:
            return self.secret.get_secret_value() if self.secret else None
        try:
            secret = self.secret_file.read_text(encoding="utf-8").strip()
            _check_secret(secret)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"auth.issuers: {self.secret_file}: {reason}") from None
        return secret

    @property
    def discovery_url(self) -> str:
        """Where its configuration is (OpenID Connect Discovery 1.0 §4)."""
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"


def _check_secret(secret: str) -> None:
    if len(secret.encode()) < LEAST_SECRET:
        raise ValueError(f"a secret should have at least {LEAST_SECRET} bytes")


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


class KeyFetching(Section):
    """How key sets are fetched from addresses."""

    timeout_ms: int = Field(3000, ge=1, le=60_000, description="milliseconds that one may take")
    cooldown_seconds: float = Field(
        10, ge=0.1, le=3600, description="seconds after one in which no unknown key causes another"
    )
    min_refresh_seconds: float = Field(
        60, ge=0.1, le=86400, description="seconds until the next one, at least"
    )
    max_refresh_seconds: float = Field(
        3600, ge=0.1, le=86400, description="seconds until the next one, at most"
    )
    keep_seconds: float = Field(
        86400, ge=1, description="seconds that the last good keys serve on while fetching fails"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "KeyFetching":
        if self.min_refresh_seconds > self.max_refresh_seconds:
            raise ValueError("min_refresh_seconds should be at most max_refresh_seconds")
        return self


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
    key_fetching: KeyFetching = Field(KeyFetching(), description="how keys are fetched")
    permissions: Permissions = Field(Permissions(), description="claims, to what they allow")

    @model_validator(mode="after")
    def _distinct(self) -> "Auth":
        names = [issuer.issuer for issuer in self.issuers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"issuers has {name!r} more than once")
        return self

    @model_validator(mode="after")
    def _each_has_keys(self) -> "Auth":
        for i, issuer in enumerate(self.issuers):
            known = issuer.jwks or issuer.issuer == self.own_issuer or "HS256" in issuer.algorithms
            if not known and not is_safe_url(issuer.issuer):
                raise ValueError(
                    f"issuers.{i} should have jwks: {issuer.issuer!r} is no https address "
                    "under which its keys could be discovered"
                )
        return self

    def find_own_issuer(self) -> Issuer | None:
        """The issuer for which this service signs, if its tokens are accepted at all."""
        return next((one for one in self.issuers if one.issuer == self.own_issuer), None)


class Login(Section):
    """Tokens for those who have no issuer of their own."""

    enabled: bool = Field(True, description="whether POST /login is there")
    token_seconds: int = Field(
        900,
        ge=1,
        le=86400,
        description="seconds of a token's life; auth.max_lifetime_seconds caps it",
    )
    window_seconds: int = Field(
        300, ge=1, le=86400, description="seconds of a window in which failures are counted"
    )
    attempts_per_user_and_address: int = Field(
        10, ge=1, description="failed attempts on one user from one address in that time"
    )
    attempts_per_user: int = Field(50, ge=1, description="failed attempts on one user")
    attempts_per_address: int = Field(100, ge=1, description="failed attempts from one address")


class RateLimit(Section):
    """How often one and the same caller may ask."""

    requests_per_minute: int = Field(
        0, ge=0, description="requests of one subject in a minute; 0: as many as it likes"
    )


class Log(Section):
    """What is logged; it goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least important lines that are written"
    )
    format: Literal["auto", "json", "text"] = Field(
        "auto", description="how lines look; auto: text on a terminal, else json"
    )


class Cors(Section):
    """Scripts of other origins, in browsers."""

    origins: tuple[Origin, ...] = Field(
        (), description="origins whose scripts may call, such as https://app.example.org; or *"
    )
    max_age_seconds: int = Field(
        600, ge=0, le=86400, description="seconds for which a browser may remember that"
    )


class Members(Section):
    """Rules of the members' resource."""

    require_if_match: bool = Field(False, description="refuse writes without If-Match")
    import_max_mib: int = Field(
        256, ge=1, le=1024 * 1024, description="MiB that the body of an import may have"
    )
    transfer_retry_seconds: float = Field(
        30,
        ge=0,
        le=3600,
        description="seconds that an export or import under way waits for a MongoDB that is away",
    )


class Telemetry(Section):
    """A trace of each request, for OpenTelemetry."""

    otlp_endpoint: Annotated[str, AfterValidator(_collector_url)] | None = Field(
        None, description="where a collector takes OTLP over HTTP, such as http://127.0.0.1:4318"
    )
    sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="the share of requests that are traced, where traceparent does not decide",
    )


class Audit(Section):
    """Who changed what."""

    enabled: bool = Field(False, description="whether changes are recorded")
    # MongoDB counts seconds, in 32 bits.
    keep_days: int = Field(
        365, ge=1, le=24_855, description="days that a record is kept, at most 24855"
    )


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
    rate_limit: RateLimit = RateLimit()
    members: Members = Members()
    cors: Cors = Cors()
    telemetry: Telemetry = Telemetry()
    audit: Audit = Audit()
    log: Log = Log()

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
        issuer = self.auth.find_own_issuer()
        if issuer is None or "HS256" in issuer.algorithms:
            return None
        return issuer.jwks.file if issuer.jwks else self.data_dir / "keys" / "jwks.json"
