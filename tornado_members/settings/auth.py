"""Settings of tokens, of their issuers and of the login."""

from typing import Any, Literal, get_args

from pydantic import Field, SecretStr, model_validator

from tornado_members.settings.types import (
    FilePath,
    SafeUrl,
    Section,
    SettingsError,
    is_safe_url,
    values,
)

Permission = Literal["members:read", "members:write", "members:delete"]
Algorithm = Literal["RS256", "ES256", "EdDSA", "HS256"]
PublicAlgorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")
LEAST_SECRET = 32  # bytes (RFC 7518 §3.2)


class Jwks(Section):
    """The source of an issuer's public keys: exactly one of the three."""

    file: FilePath | None = Field(None, description="JSON file with the key set (RFC 7517).")
    url: SafeUrl | None = Field(
        None,
        description="URL from which the key set is fetched.",
        json_schema_extra=values("`https://...`, or `http://...` on this machine itself"),
    )
    keys: tuple[dict[str, Any], ...] | None = Field(None, description="The keys themselves.")

    @model_validator(mode="after")
    def _exactly_one(self) -> "Jwks":
        if sum(source is not None for source in (self.file, self.url, self.keys)) != 1:
            raise ValueError("should have exactly one of file, url and keys")
        return self


class Issuer(Section):
    """An issuer whose tokens are accepted."""

    issuer: str = Field(min_length=1, description="The `iss` claim of its tokens.")
    audience: str = Field(min_length=1, description="The `aud` claim of tokens for this service.")
    algorithms: tuple[Algorithm, ...] = Field(
        PublicAlgorithms,
        min_length=1,
        description="Signature algorithms that are accepted. HS256 requires a secret and excludes "
        "the others.",
    )
    jwks: Jwks | None = Field(
        None,
        description="Where its public keys are. `null` for `auth.own_issuer` is "
        "`<data_dir>/keys/jwks.json`. `null` for another issuer is OpenID discovery from "
        "`<issuer>/.well-known/openid-configuration`.",
        json_schema_extra=values("`{file: PATH}`, `{url: https://...}`, `{keys: [...]}` or `null`"),
    )
    secret: SecretStr | None = Field(
        None,
        description="Secret shared with the issuer, for HS256.",
        json_schema_extra=values(f"text of at least {LEAST_SECRET} bytes, or `null`"),
    )
    secret_file: FilePath | None = Field(
        None, description="File that contains the secret, instead of `secret`."
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
    if len(secret.encode()) < LEAST_SECRET:
        raise ValueError(f"a secret should have at least {LEAST_SECRET} bytes")


class KeyFetching(Section):
    """How often key sets are fetched from URLs."""

    timeout_ms: int = Field(
        3000, ge=1, le=60_000, description="Timeout of one fetch, in milliseconds."
    )
    cooldown_seconds: float = Field(
        10,
        ge=0.1,
        le=3600,
        description="Time after a fetch in which tokens with an unknown key cause no other fetch, "
        "in seconds.",
    )
    min_refresh_seconds: float = Field(
        60,
        ge=0.1,
        le=86400,
        description="Minimum time until the next fetch, in seconds, whatever `max-age` the "
        "response has.",
    )
    max_refresh_seconds: float = Field(
        3600, ge=0.1, le=86400, description="Maximum time until the next fetch, in seconds."
    )
    keep_seconds: float = Field(
        86400,
        ge=1,
        description="Time that the last valid keys stay in use while fetches fail, in seconds. "
        "Tokens of the issuer then receive 503.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "KeyFetching":
        if self.min_refresh_seconds > self.max_refresh_seconds:
            raise ValueError("min_refresh_seconds should be at most max_refresh_seconds")
        return self


class Permissions(Section):
    """The permissions that a token's claims grant."""

    access_rights: dict[int, tuple[Permission, ...]] = Field(
        {
            0: (),
            1: ("members:read",),
            2: ("members:read", "members:write"),
            3: ("members:read", "members:write", "members:delete"),
        },
        description="Permissions by the value of the numeric claim `access_rights`. A value "
        "without permissions blocks the token.",
        json_schema_extra=values("map of an integer to a list of permissions"),
    )
    scope: dict[str, tuple[Permission, ...]] = Field(
        {name: (name,) for name in get_args(Permission)},
        description="Permissions by a word of the claim `scope`.",
        json_schema_extra=values("map of a word to a list of permissions"),
    )


class Auth(Section):
    """The tokens that are accepted, and what they allow."""

    own_issuer: str = Field(
        "tornado-members",
        description="The issuer for which `tornado-members token` and `POST /login` sign. The "
        "first start creates its key.",
    )
    issuers: tuple[Issuer, ...] = Field(
        (Issuer(issuer="tornado-members", audience="members"),),
        min_length=1,
        description="The issuers whose tokens are accepted.",
    )
    leeway_seconds: int = Field(
        30,
        ge=0,
        le=300,
        description="Clock difference that is tolerated when times are checked, in seconds.",
    )
    max_lifetime_seconds: int = Field(
        86400,
        ge=1,
        description="Maximum time between a token's `iat` and its `exp`, in seconds.",
    )
    key_fetching: KeyFetching = KeyFetching()
    permissions: Permissions = Permissions()

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
                    f"issuers.{i} should have jwks: {issuer.issuer!r} is not an https URL from "
                    "which its keys could be discovered"
                )
        return self

    def find_own_issuer(self) -> Issuer | None:
        """Return the issuer for which this service signs, if its tokens are accepted."""
        return next((one for one in self.issuers if one.issuer == self.own_issuer), None)


class Login(Section):
    """Tokens for users of this service's own, in exchange for a password."""

    enabled: bool = Field(
        True,
        description="Whether `POST /login` exists. It needs the signing key of `auth.own_issuer`.",
    )
    token_seconds: int = Field(
        900,
        ge=1,
        le=86400,
        description="Lifetime of a token, in seconds. `auth.max_lifetime_seconds` caps it.",
    )
    window_seconds: int = Field(
        300,
        ge=1,
        le=86400,
        description="Length of the fixed window in which failed attempts are counted, in seconds.",
    )
    attempts_per_user_and_address: int = Field(
        10,
        ge=1,
        description="Maximum failed attempts per window on one user from one address. IPv6 "
        "addresses count by their /64.",
    )
    attempts_per_user: int = Field(
        50, ge=1, description="Maximum failed attempts per window on one user from any address."
    )
    attempts_per_address: int = Field(
        100,
        ge=1,
        description="Maximum failed attempts per window from one address on any user. Set "
        "`server.trusted_proxies` if there is a reverse proxy; otherwise all its clients share one "
        "address.",
    )
