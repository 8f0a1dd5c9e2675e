"""Settings of tokens, of their issuers and of the login."""

from typing import Literal

from pydantic import Field, model_validator

from tornado_members.settings.issuers import Issuer
from tornado_members.settings.permissions import OWN_PERMISSIONS, Permissions
from tornado_members.settings.types import Section, is_safe_url, link


class KeyFetching(Section):
    """The intervals at which key sets are fetched from URLs."""

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


class Auth(Section):
    """The tokens that are accepted, and what they allow."""

    own_issuer: str = Field(
        "tornado-members",
        description="The issuer for which `tornado-members token` and `POST /login` sign. The "
        "first start creates its key.",
    )
    issuers: tuple[Issuer, ...] = Field(
        (Issuer(issuer="tornado-members", audience=("members",)),),
        min_length=1,
        description="The issuers whose tokens are accepted. One issuer may be listed several times "
        "with different audiences: the first entry that accepts a token applies.",
        json_schema_extra=link("identity-providers.md"),
    )
    max_token_bytes: int = Field(
        16 * 1024,
        ge=256,
        le=1024 * 1024,
        description="Maximum size of a token, in bytes. `server.limits.header_bytes` has to leave "
        "room for it.",
    )
    sender_constrained: Literal["refuse", "ignore"] = Field(
        "refuse",
        description="Treatment of tokens that are bound to a key of their holder (`cnf`: DPoP, "
        "mTLS). The service does not verify that the caller has the key. `ignore` accepts them as "
        "bearer tokens.",
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
        seen = set()
        for i, issuer in enumerate(self.issuers):
            accepted = (issuer.issuer, frozenset(issuer.audience or issuer.client_ids or ()))
            if accepted in seen:
                raise ValueError(
                    f"issuers.{i} should have another audience: {issuer.issuer!r} is listed before "
                    "with the same one"
                )
            seen.add(accepted)
        return self

    @model_validator(mode="after")
    def _own_records_are_named(self) -> "Auth":
        for i, issuer in enumerate(self.issuers):
            own = sorted(issuer.permissions.granted() & OWN_PERMISSIONS)
            if own and issuer.member_claim is None and issuer.issuer != self.own_issuer:
                raise ValueError(
                    f"issuers.{i} should have member_claim, the claim that holds the caller's "
                    f"memberId: its permissions grant {', '.join(own)}"
                )
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


class Login(Section):
    """Tokens for users of this service's own, in exchange for a password."""

    enabled: bool = Field(
        True,
        description="Serve `POST /login`. It requires the signing key of `auth.own_issuer`.",
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
    logins_per_user: int = Field(
        300, ge=1, description="Maximum successful logins of one user per window."
    )
