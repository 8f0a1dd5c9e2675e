"""Fetching key sets over HTTP: bounded in time and size, without redirects, strictly parsed."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tornado_members.auth.key_requests import BoundedClient
from tornado_members.auth.key_set import KeysUnusable, parse_jwks
from tornado_members.model.strict_json import parse_object
from tornado_members.settings import is_safe_url

MAX_ANSWER = 256 * 1024  # bytes
MAX_KEYS = 100  # parsing them occupies a thread of the event loop's pool
_MAX_AGE = re.compile(r'(?:^|[,\s])max-age="?([0-9]{1,9})"?(?:$|[,\s])', re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s=])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The JWKs of a key set, its URL, and how long it may be kept (seconds)."""

    documents: list[dict[str, Any]]
    url: str
    max_age: float | None  # None if the response has none


class JwksClient:
    """Fetches key sets. Every call raises KeysUnusable with the reason."""

    def __init__(self, timeout: float) -> None:
        """`timeout` in seconds, for one request from its first step to its last byte."""
        self._timeout = timeout
        self._client = BoundedClient(MAX_ANSWER)

    def close(self) -> None:
        """Release the client."""
        self._client.close()

    async def fetch(self, url: str) -> Fetched:
        """Fetch the keys at a URL (RFC 7517 §5)."""
        body, headers = await self._get(url)
        documents = parse_jwks(body, url)
        if len(documents) > MAX_KEYS:
            raise KeysUnusable(f"{url}: has {len(documents)} keys; at most {MAX_KEYS} are accepted")
        return Fetched(documents, url, _max_age(headers))

    async def discover(self, configuration_url: str, issuer: str) -> Fetched:
        """Fetch the keys that an issuer's configuration names (OpenID Connect Discovery 1.0 §4)."""
        body, _ = await self._get(configuration_url)
        try:
            configuration = parse_object(body)
        except ValueError as error:
            raise KeysUnusable(f"{configuration_url}: {error}") from None
        if configuration.get("issuer") != issuer:  # §4.3: exactly
            raise KeysUnusable(f"{configuration_url}: is the configuration of another issuer")
        url = configuration.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url) or _is_plain(url, configuration_url):
            raise KeysUnusable(f"{configuration_url}: has a jwks_uri that is not an https URL")
        return await self.fetch(url)

    async def _get(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.get(url)
        except TimeoutError:
            raise KeysUnusable(f"{url}: did not respond within {self._timeout:g} s") from None
        except Exception as error:  # noqa: BLE001  # each kind of failure has its own exception
            raise KeysUnusable(f"{url}: did not respond: {error}") from None
        if response.status != 200:
            raise KeysUnusable(f"{url}: responded with status {response.status}")
        return response.body, response.headers


def _is_plain(url: str, configuration_url: str) -> bool:
    """Return True if an https configuration names a URL that is not https."""
    return configuration_url.startswith("https:") and not url.startswith("https:")


def _max_age(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response may be kept (RFC 9111 §5.2.2); None without max-age."""
    cache_control = headers.get("Cache-Control", "")
    if _NOT_KEPT.search(cache_control):
        return 0.0
    match = _MAX_AGE.search(cache_control)
    return float(match[1]) if match else None
