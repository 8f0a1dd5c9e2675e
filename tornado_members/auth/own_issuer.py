"""The issuer for which this service signs tokens itself."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tornado_members.auth.claims import set_claim
from tornado_members.auth.issuer_rules import DEFAULT_MEMBER_CLAIM
from tornado_members.auth.signing import OWN_ALGORITHM, has_signing_key
from tornado_members.settings import Issuer, Settings


@dataclass(frozen=True, slots=True)
class OwnIssuer:
    """The entry of auth.own_issuer in auth.issuers, and the location of its keys."""

    entry: Issuer
    jwks_file: Path | None  # None if its keys are not in a file
    max_lifetime: int  # seconds that a token may be valid
    leeway: int  # seconds that it is accepted beyond

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return None if the service does not accept tokens of auth.own_issuer."""
        auth = settings.auth
        entry = next((issuer for issuer in auth.issuers if issuer.issuer == auth.own_issuer), None)
        if entry is None:
            return None
        file = entry.jwks.file if entry.jwks else settings.data_dir / "keys" / "jwks.json"
        return cls(
            entry,
            None if "HS256" in entry.algorithms else file,
            entry.max_lifetime_seconds or auth.max_lifetime_seconds,
            auth.leeway_seconds,
        )

    @property
    def name(self) -> str:
        """The `iss` claim."""
        return self.entry.issuer

    @property
    def accepts_own_signature(self) -> bool:
        """True if a token signed with the own key would be accepted."""
        return OWN_ALGORITHM in self.entry.algorithms

    @property
    def can_sign(self) -> bool:
        """True if a signing key exists, and its signatures are accepted."""
        file = self.jwks_file
        return file is not None and self.accepts_own_signature and has_signing_key(file)

    @property
    def max_token_seconds(self) -> int:
        """The longest time for which a token is accepted after its issue, in seconds."""
        return self.max_lifetime + self.leeway

    def claims(
        self, subject: str, seconds: int, *, member_id: int | None = None, **more: Any
    ) -> Mapping[str, Any]:
        """Return the claims of a token that is valid for a number of seconds from now.

        `member_id` is the id of the caller's own member.
        """
        now = int(time.time())
        claims: dict[str, Any] = {"iss": self.name}
        if self.entry.audience:
            claims["aud"] = self.entry.audience[0]
        elif self.entry.client_ids:
            claims["client_id"] = self.entry.client_ids[0]
        set_claim(claims, self.entry.subject_claim, subject)
        claims |= {"iat": min(now, now + seconds), "exp": now + seconds}
        if member_id is not None:
            set_claim(claims, self.entry.member_claim or DEFAULT_MEMBER_CLAIM, member_id)
        return {**claims, **more}
