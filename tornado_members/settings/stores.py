"""Settings of MongoDB and of Memcached."""

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from tornado_members.settings.types import (
    FilePath,
    HostPort,
    Section,
    SettingsError,
    link,
    values,
)


class MongoDB(Section):
    """The database that stores the members."""

    uri: SecretStr = Field(
        SecretStr("embedded"),
        description="Address of MongoDB, a secret. `embedded` starts a private server.",
        json_schema_extra=values("`embedded` or `mongodb://user:password@host/?replicaSet=rs0`"),
    )
    uri_file: FilePath | None = Field(
        None, description="File that contains the URI, instead of `mongodb.uri`."
    )
    database: str = Field(
        "members",
        pattern=r'^[^/\\. "$*<>:|?\x00]{1,63}$',
        description="Name of the database. Services on different databases may share a Memcached.",
        json_schema_extra=values('1 to 63 characters, none of `/ \\ . " $ * < > : | ?` and space'),
    )
    driver: Literal["motor", "pymongo"] = Field(
        "motor",
        description="Client library: Motor, or PyMongo's asynchronous client.",
        json_schema_extra=link("decisions/drivers.md"),
    )
    timeout_ms: int = Field(
        2000, ge=1, le=600_000, description="Timeout of one operation, in milliseconds."
    )

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: SecretStr) -> SecretStr:
        if not re.match(r"(embedded$|mongodb(\+srv)?://)", uri.get_secret_value()):
            raise ValueError("should be 'embedded' or start with mongodb://")
        return uri

    @property
    def embedded(self) -> bool:
        """True if the settings require a private server."""
        return self.uri_file is None and self.uri.get_secret_value() == "embedded"

    def connection_uri(self) -> str:
        """Return the URI. Raises SettingsError if its file is unreadable."""
        if self.uri_file is None:
            return self.uri.get_secret_value()
        try:
            return self.uri_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"mongodb.uri_file: {self.uri_file}: {reason}") from None


class Cache(Section):
    """The Memcached nodes that cache members."""

    servers: Literal["embedded"] | tuple[HostPort, ...] = Field(
        "embedded",
        description="Addresses of the nodes. `embedded` starts a private server, `[]` disables "
        "the cache.",
        json_schema_extra=values('`embedded` or a list, such as `["127.0.0.1:11211"]`'),
    )
    ttl_seconds: int = Field(
        300,
        ge=1,
        le=30 * 86400,
        description="Maximum lifetime of an entry, in seconds. Each entry lives up to a tenth "
        "less, so that entries do not expire together.",
        json_schema_extra=values("integer, 1 to 2592000 (30 days)"),
    )
    timeout_ms: int = Field(
        100,
        ge=1,
        le=60_000,
        description="Timeout of one operation, in milliseconds. At most `mongodb.timeout_ms`.",
    )
    heartbeat_ms: int = Field(
        200,
        ge=1,
        le=60_000,
        description="Time within which each node must reply to a probe, in milliseconds. A node "
        "that does not is treated as down.",
        json_schema_extra=link("operations.md#the-cache"),
    )
    return_ms: int = Field(
        1000,
        ge=1,
        le=600_000,
        description="Time that a node must have replied before it is read again, in milliseconds. "
        "At least half of `heartbeat_ms` plus three times `timeout_ms`. All services need the same "
        "value.",
        json_schema_extra=link("operations.md#the-cache"),
    )
    require_for_writes: bool = Field(
        False,
        description="Refuse writes that cannot be announced to the cache. They receive 503, and "
        "nothing is written.",
    )
