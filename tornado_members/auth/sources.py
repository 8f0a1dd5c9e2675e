"""Each issuer's keys, from where its settings say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from tornado_members.auth.fetched_keys import FetchedKeys
from tornado_members.auth.jwks_client import JwksClient
from tornado_members.auth.keys import (
    FileKeys,
    FixedKeys,
    KeySource,
    KeysUnusable,
    parse_key_set,
    secret_key_set,
)
from tornado_members.auth.signing import own_signing_key
from tornado_members.settings import Issuer, Settings


@asynccontextmanager
async def open_key_sources(settings: Settings) -> AsyncIterator[dict[str, KeySource]]:
    """By the name of the issuer; those that are fetched are fetched at once, and all together.

    Raises KeysUnusable, SettingsError.
    """
    async with AsyncExitStack() as stack:
        client = JwksClient(timeout=settings.auth.key_fetching.timeout_ms / 1000)
        stack.callback(client.close)
        sources: dict[str, KeySource] = {}
        for issuer in settings.auth.issuers:
            try:
                sources[issuer.issuer] = _make_source(issuer, settings, client)
            except KeysUnusable as error:
                raise KeysUnusable(f"auth.issuers, {issuer.issuer}: {error}") from error
        fetched = [source for source in sources.values() if isinstance(source, FetchedKeys)]
        for source in fetched:
            stack.push_async_callback(source.close)
        await asyncio.gather(*(source.open() for source in fetched))
        yield sources


def _make_source(issuer: Issuer, settings: Settings, client: JwksClient) -> KeySource:
    if secret := issuer.shared_secret():
        return FixedKeys(secret_key_set(secret))
    if issuer.jwks and issuer.jwks.keys is not None:
        return FixedKeys(parse_key_set(issuer.jwks.keys, f"the keys of {issuer.issuer}"))
    fetching = settings.auth.key_fetching
    if issuer.jwks and issuer.jwks.url:
        return FetchedKeys(issuer.issuer, partial(client.fetch, issuer.jwks.url), fetching)
    own = settings.own_jwks_file() if issuer.issuer == settings.auth.own_issuer else None
    file = issuer.jwks.file if issuer.jwks else own
    if file is None:
        discover = partial(client.discover, issuer.discovery_url, issuer.issuer)
        return FetchedKeys(issuer.issuer, discover, fetching)
    if file == own and not file.exists():
        own_signing_key(file)
    return FileKeys(file)
