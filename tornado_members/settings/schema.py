"""All settings: the root, and the sections that have no module of their own."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from tornado_members.model.fields import FieldTable
from tornado_members.settings.attributes import AttributeMap, field_table
from tornado_members.settings.auth import Auth, Login
from tornado_members.settings.server import Admin, Server
from tornado_members.settings.stores import Cache, MongoDB
from tornado_members.settings.types import (
    CollectorUrl,
    FilePath,
    HeaderName,
    Origin,
    Section,
    link,
    values,
)

ENV_PREFIX = "MEMBERS_"


class RateLimit(Section):
    """A limit on the requests of one subject, counted in Memcached over all processes."""

    requests_per_minute: int = Field(
        0,
        ge=0,
        description="Maximum number of requests per subject and minute. Excess requests receive "
        "429. 0 is no limit.",
        json_schema_extra=link("operations.md#limits"),
    )


class Members(Section):
    """Rules of the members resource."""

    require_if_match: bool = Field(
        False, description="Refuse changes of a member without `If-Match`. They receive 428."
    )
    import_max_mib: int = Field(
        256,
        ge=1,
        le=1024 * 1024,
        description="Maximum size of the body of an import, in MiB. Every other body may have 16 "
        "KiB.",
    )
    import_spool_mib: int = Field(
        512,
        ge=1,
        le=1024 * 1024,
        description="Maximum size of the temporary files of all imports of a process, in MiB. They "
        "hold results that clients have not read yet.",
    )
    import_spool_mib_per_caller: int = Field(
        128,
        ge=1,
        le=1024 * 1024,
        description="Maximum size of the temporary files of all imports of one caller in a "
        "process, in MiB. An import that needs more waits until its client reads.",
    )
    import_unread_seconds: float = Field(
        600,
        gt=0,
        le=24 * 3600,
        description="Time that a client may leave results of an import unread while it still sends "
        "the body, in seconds. Afterwards `server.limits.write_seconds` applies.",
    )
    transfer_retry_seconds: float = Field(
        30,
        ge=0,
        le=3600,
        description="Time that an export or import in progress waits for an unreachable MongoDB, "
        "in seconds. It is then aborted.",
    )
    attributes: AttributeMap = Field(
        {},
        description="Attributes of members, by name, at most 50. Without any, members have no "
        "`attributes`.",
        json_schema_extra=link("attributes.md"),
    )

    def fields(self) -> FieldTable:
        """Return the fields of members, with the declared attributes."""
        return field_table(self.attributes)


class Feed(Section):
    """The change feed, `GET /members/changes`. Each worker applies these limits on its own."""

    subscribers: int = Field(
        2000,
        ge=0,
        le=100_000,
        description="Maximum number of clients that follow the feed. Excess clients receive 503.",
        json_schema_extra=link("feed.md"),
    )
    buffer_mib: int = Field(
        8,
        ge=1,
        le=4096,
        description="Memory for the latest changes, in MiB. All clients share them. A client that "
        "falls behind them is disconnected, and can resume.",
        json_schema_extra=link("feed.md"),
    )


class Cors(Section):
    """Access for scripts of other origins, in browsers."""

    origins: tuple[Origin, ...] = Field(
        (),
        description='Origins whose scripts may call the API. `["*"]` allows all, which is safe '
        "because the API uses no cookies.",
        json_schema_extra=values('list, such as `["https://app.example.org"]`, or `["*"]`'),
    )
    request_headers: tuple[HeaderName, ...] = Field(
        (),
        description="Request headers that scripts may send, beside those that the API uses. Name "
        "those that your gateway or your tracing adds.",
        json_schema_extra=values("list of header names"),
    )
    max_age_seconds: int = Field(
        600,
        ge=0,
        le=86400,
        description="Time for which a browser may cache the answer to a preflight, in seconds.",
    )


class Console(Section):
    """The page at `/console`, on which people manage members."""

    enabled: bool = Field(
        True,
        description="Serve `/console`.",
        json_schema_extra=link("console.md"),
    )
    title: str = Field(
        "Members",
        min_length=1,
        max_length=60,
        description="Title of the page, such as the name of the club.",
    )
    status: bool = Field(
        False,
        description="Serve `/status`, and add a status page to the console. It shows callers with "
        "`members:delete` the content of `/readyz` and totals of the metrics.",
    )


class Log(Section):
    """The log, on standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="Minimum severity of the records that are written.",
        json_schema_extra=link("operations.md#logs"),
    )
    format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="Format of a record. `auto` is `text` on a terminal, otherwise `json`.",
    )


class Telemetry(Section):
    """A trace of each request, for OpenTelemetry. It requires the extra `otel`."""

    otlp_endpoint: CollectorUrl | None = Field(
        None,
        description="URL of the collector, for OTLP over HTTP. `/v1/traces` is appended. `null` "
        "disables tracing.",
        json_schema_extra=values(
            "URL such as `http://127.0.0.1:4318`, or `null`", see="operations.md#traces"
        ),
    )
    sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of requests that are traced. It applies to requests without "
        "`traceparent`.",
    )


class Audit(Section):
    """A history of changes, at `GET /members/{memberId}/history`."""

    enabled: bool = Field(
        False,
        description="Record each change, in one transaction with it. MongoDB must be a replica "
        "set.",
        json_schema_extra=link("operations.md#audit"),
    )
    keep_days: int = Field(
        365,
        ge=1,
        le=24_855,  # MongoDB counts the seconds in 32 bits
        description="Time that a record is kept, in days. A change applies to existing records at "
        "the next start.",
    )


class Settings(BaseSettings):
    """Every setting."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
    )

    data_dir: FilePath = Field(
        Path(".data"),
        validate_default=True,
        description="Folder of the service's own files: signing keys, rejected rows, and the data "
        "of private servers.",
    )
    server: Server = Server()
    admin: Admin = Admin()
    mongodb: MongoDB = MongoDB()
    cache: Cache = Cache()
    auth: Auth = Auth()
    login: Login = Login()
    rate_limit: RateLimit = RateLimit()
    members: Members = Members()
    feed: Feed = Feed()
    cors: Cors = Cors()
    console: Console = Console()
    log: Log = Log()
    telemetry: Telemetry = Telemetry()
    audit: Audit = Audit()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # of pydantic
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # of pydantic
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # of pydantic
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override the file, key by key."""
        return env_settings, init_settings
