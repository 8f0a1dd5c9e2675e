"""Fetching key sets over HTTP: bounded in time and size, without redirects, strictly read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tornado.simple_httpclient import SimpleAsyncHTTPClient

from tornado_members.auth.keys import KeysUnusable, parse_jwks
from tornado_members.model.strict_json import parse_object
from tornado_members.settings import is_safe_url

MAX_ANSWER = 256 * 1024  # bytes
MAX_KEYS = 100  # each takes a while to read, and everybody waits
_MAX_HEADERS = 16 * 1024  # bytes
_MAX_AGE = re.compile(r'(?:^|[,\s])max-age="?([0-9]{1,9})"?(?:$|[,\s])', re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s=])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was found: the keys of a key set, where, and how long they are good for (seconds)."""

    documents: list[dict[str, Any]]
    url: str
    max_age: float | None  # None where the answer did not say


class JwksClient:
    """A client in the running event loop. Every call raises KeysUnusable, and says why."""

    def __init__(self, timeout: float) -> None:
        """`timeout` in seconds, for one request from its first step to its last byte."""
        self._timeout = timeout
        self._client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=100,
            max_body_size=MAX_ANSWER,
            # A body that ends with its connection is bounded by the buffer alone.
            max_buffer_size=MAX_ANSWER + _MAX_HEADERS,
            max_header_size=_MAX_HEADERS,
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    async def fetch(self, url: str) -> Fetched:
        """The keys at an address (RFC 7517 §5)."""
        body, headers = await self._get(url)
        documents = parse_jwks(body, url)
        if len(documents) > MAX_KEYS:
            raise KeysUnusable(f"{url}: has {len(documents)} keys; {MAX_KEYS} are the most")
        return Fetched(documents, url, _max_age(headers))

    async def discover(self, configuration_url: str, issuer: str) -> Fetched:
        """The keys to which an issuer's configuration leads (OpenID Connect Discovery 1.0 §4)."""
        body, _ = await self._get(configuration_url)
        try:
            configuration = parse_object(body)
        except ValueError as error:
            raise KeysUnusable(f"{configuration_url}: {error}") from None
        if configuration.get("issuer") != issuer:  # §4.3: exactly, or it is somebody else's
            raise KeysUnusable(f"{configuration_url}: is the configuration of another issuer")
        url = configuration.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url) or _is_plain(url, configuration_url):
            raise KeysUnusable(f"{configuration_url}: has no https address as its jwks_uri")
        return await self.fetch(url)

    async def _get(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        try:
            response = await self._client.fetch(
                url,
                follow_redirects=False,
                connect_timeout=self._timeout,
                request_timeout=self._timeout,
                decompress_response=False,  # a small answer could become a large one
                user_agent="tornado_members",
                headers={"Accept": "application/json, application/jwk-set+json"},
                raise_error=False,
            )
        except Exception as error:  # noqa: BLE001
            # Refused, cut off, too long, nonsense: Tornado has an exception of its own for each.
            raise KeysUnusable(f"{url}: gives no answer: {error}") from None
        if response.code != 200:
            raise KeysUnusable(f"{url}: answers {response.code}")
        return response.body, response.headers


def _is_plain(url: str, configuration_url: str) -> bool:
    """Whether it is no https address, though the one that leads to it is."""
    return configuration_url.startswith("https:") and not url.startswith("https:")


def _max_age(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer may be kept (RFC 9111 §5.2.2), where it says so."""
    cache_control = headers.get("Cache-Control", "")
    if _NOT_KEPT.search(cache_control):
        return 0.0
    match = _MAX_AGE.search(cache_control)
    return float(match[1]) if match else None
