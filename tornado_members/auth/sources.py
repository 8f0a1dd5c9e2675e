"""Opens the key sources of all issuers: from the settings, a file, a URL or by discovery."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from logging import getLogger
from pathlib import Path

from tornado_members.auth.fetched_keys import FetchedKeys
from tornado_members.auth.issuer_rules import key_source_names
from tornado_members.auth.jwks_client import JwksClient
from tornado_members.auth.key_set import (
    KeySet,
    KeysUnusable,
    parse_key_set,
    read_key_set,
    secret_key_set,
)
from tornado_members.auth.keys import FileKeys, FixedKeys, KeySource
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.signing import own_signing_key
from tornado_members.settings import Issuer, Settings, is_safe_url

log = getLogger(__name__)


@asynccontextmanager
async def open_key_sources(settings: Settings) -> AsyncIterator[dict[str, KeySource]]:
    """Yield the sources by the names of key_source_names(); the first fetches run concurrently.

    Raises KeysUnusable, SettingsError.
    """
    async with AsyncExitStack() as stack:
        client = JwksClient(timeout=settings.auth.key_fetching.timeout_ms / 1000)
        stack.callback(client.close)
        sources: dict[str, KeySource] = {}
        issuers = settings.auth.issuers
        for issuer, name in zip(issuers, key_source_names(issuers), strict=True):
            if name in sources:
                continue
            try:
                sources[name] = _make_source(issuer, name, settings, client)
            except KeysUnusable as error:
                raise KeysUnusable(f"auth.issuers, {name}: {error}") from error
        fetched = [source for source in sources.values() if isinstance(source, FetchedKeys)]
        for source in fetched:
            stack.push_async_callback(source.close)
        await asyncio.gather(*(source.open() for source in fetched))
        yield sources


def read_local_keys(issuer: Issuer, settings: Settings) -> KeySet | None:
    """Return the keys that are in the settings or in a file; None if they are fetched.

    Raises KeysUnusable, SettingsError. Makes no keys.
    """
    if secret := issuer.shared_secret():
        return secret_key_set(secret)
    if issuer.jwks and issuer.jwks.keys is not None:
        return parse_key_set(issuer.jwks.keys, f"the keys of {issuer.issuer}")
    file = issuer.jwks.file if issuer.jwks else _own_file(issuer, settings)
    return read_key_set(file) if file else None


def _own_file(issuer: Issuer, settings: Settings) -> Path | None:
    own = OwnIssuer.from_settings(settings)
    return own.jwks_file if own and own.name == issuer.issuer else None


def _make_source(issuer: Issuer, name: str, settings: Settings, client: JwksClient) -> KeySource:
    if secret := issuer.shared_secret():
        return FixedKeys(secret_key_set(secret))
    if issuer.jwks and issuer.jwks.keys is not None:
        keys = parse_key_set(issuer.jwks.keys, f"the keys of {name}")
        keys.log_left_out(f"the keys of {name}")
        return FixedKeys(keys)
    fetching = settings.auth.key_fetching
    if issuer.jwks and issuer.jwks.url:
        _warn_of_plain_http(name, issuer.jwks.url)
        return FetchedKeys(name, partial(client.fetch, issuer.jwks.url), fetching)
    own_file = _own_file(issuer, settings)
    file = issuer.jwks.file if issuer.jwks else own_file
    if file is None:
        discover = partial(client.discover, issuer.discovery_url, issuer.issuer)
        return FetchedKeys(name, discover, fetching)
    if file == own_file and not file.exists():
        own_signing_key(file)
    return FileKeys(file)


def _warn_of_plain_http(name: str, url: str) -> None:
    if not is_safe_url(url):
        log.warning(
            "the keys of %s are fetched over plain HTTP from %s: an attacker on that network can "
            "sign tokens",
            name,
            url,
        )
