"""Settings of one issuer: its tokens, its keys, and what they grant."""

from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from tornado_members.settings.permissions import ClaimPath, IssuerPermissions
from tornado_members.settings.types import (
    FilePath,
    Names,
    Section,
    SettingsError,
    is_safe_url,
    values,
)

Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "HS256",
]
DEFAULT_ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
MIN_SECRET_BYTES = 32  # bytes (RFC 7518 §3.2)


class Jwks(Section):
    """The source of an issuer's public keys: exactly one of the three."""

    file: FilePath | None = Field(None, description="JSON file with the key set (RFC 7517).")
    allow_http: bool = Field(False, description="Allow plain HTTP in `url`, on a trusted network.")
    url: str | None = Field(
        None,
        description="URL from which the key set is fetched.",
        json_schema_extra=values("`https://...`, or `http://...` on this machine itself"),
    )
    keys: tuple[dict[str, Any], ...] | None = Field(None, description="The keys themselves.")

    @field_validator("url")
    @classmethod
    def _safe_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        allow_http = bool(info.data.get("allow_http"))
        if url is not None and not is_safe_url(url, allow_http=allow_http):
            raise ValueError(
                "should be https://..., or http://... on this machine itself; "
                "plain HTTP to another host needs allow_http: true"
            )
        return url

    @model_validator(mode="after")
    def _exactly_one(self) -> "Jwks":
        if sum(source is not None for source in (self.file, self.url, self.keys)) != 1:
            raise ValueError("should have exactly one of file, url and keys")
        return self


class Issuer(Section):
    """An issuer whose tokens are accepted, for some audiences."""

    issuer: str = Field(min_length=1, description="The `iss` claim of its tokens.")
    audience: Names | None = Field(
        None,
        description="Accepted audiences. The `aud` claim must contain one of them. `null` only "
        "with `client_ids`.",
        json_schema_extra=values("text, or list of text"),
    )
    client_ids: Names | None = Field(
        None,
        description="Accepted clients, for tokens without `aud`, such as those of Amazon Cognito. "
        "`client_id` must be one of them, or `azp` in a token without `client_id`.",
        json_schema_extra=values("text, list of text, or `null`"),
    )
    algorithms: tuple[Algorithm, ...] = Field(
        DEFAULT_ALGORITHMS,
        min_length=1,
        description="Signature algorithms that are accepted. HS256 requires a secret and excludes "
        "the others.",
    )
    token_types: Names = Field(
        ("JWT", "at+jwt"),
        description="Values of the `typ` header that are accepted, in any case and with or without "
        "`application/`. A missing `typ` is accepted.",
        json_schema_extra=values("text, or list of text"),
    )
    max_lifetime_seconds: int | None = Field(
        None,
        ge=1,
        description="Maximum time between a token's `iat` and its `exp`, in seconds. `null` is "
        "`auth.max_lifetime_seconds`.",
        json_schema_extra=values("integer, at least 1, or `null`"),
    )
    subject_claim: ClaimPath = Field(
        ("sub",),
        description="The claim that identifies the caller, for providers whose tokens have no "
        "`sub`.",
        json_schema_extra=values("text, or list of text"),
    )
    member_claim: ClaimPath | None = Field(
        None,
        description="The claim that holds the `memberId` of the caller's own member, a positive "
        "integer or its decimal string. The permissions `members:read:own` and `members:write:own` "
        "require it. `null` for `auth.own_issuer` is `member_id`.",
        json_schema_extra=values("text, list of text, or `null`", see="api.md#your-own-record"),
    )
    jwks: Jwks | None = Field(
        None,
        description="Source of its public keys. `null` for `auth.own_issuer` is "
        "`<data_dir>/keys/jwks.json`. `null` for another issuer is OpenID discovery from "
        "`<issuer>/.well-known/openid-configuration`. `allow_http: true` beside `url` permits "
        "plain HTTP.",
        json_schema_extra=values(
            "`{file: PATH}`, `{url: https://...}`, `{keys: [...]}` or `null`",
            see="operations.md#fetching-keys",
        ),
    )
    secret: SecretStr | None = Field(
        None,
        description="Secret shared with the issuer, for HS256.",
        json_schema_extra=values(f"text of at least {MIN_SECRET_BYTES} bytes, or `null`"),
    )
    secret_file: FilePath | None = Field(
        None, description="File that contains the secret, instead of `secret`."
    )
    permissions: IssuerPermissions = IssuerPermissions()

    @model_validator(mode="after")
    def _audience_or_client_ids(self) -> "Issuer":
        if self.audience is not None and self.client_ids is not None:
            raise ValueError(
                "should have either audience or client_ids: client_ids is for tokens without aud"
            )
        if self.audience is None and self.client_ids is None:
            raise ValueError(
                "audience is missing: set it to the aud claim of tokens for this service, or set "
                "client_ids for tokens without aud"
            )
        return self

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
        """Return the secret, if the issuer has one. Raises SettingsError for an invalid file."""
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
        """The URL of its configuration (OpenID Connect Discovery 1.0 §4)."""
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"


def _check_secret(secret: str) -> None:
    if len(secret.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"a secret should have at least {MIN_SECRET_BYTES} bytes")
