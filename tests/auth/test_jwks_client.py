"""Fetching key sets: every bad response is a failure with a reason, in bounded time."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.key_server import (
    KeyServer,
    Response,
    body,
    document,
    drip,
    hang,
    huge,
    key_server,
    keys,
    status,
)
from tornado_members.auth.jwks_client import MAX_ANSWER, JwksClient
from tornado_members.auth.key_set import KeysUnusable

CONFIGURATION = "/.well-known/openid-configuration"


@asynccontextmanager
async def fetching() -> AsyncIterator[tuple[JwksClient, KeyServer]]:
    client = JwksClient(0.3)
    try:
        async with key_server() as server:
            yield client, server
    finally:
        client.close()


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        (None, None),
        ("public, max-age=600", 600),
        ('Max-Age="7", must-revalidate', 7),
        ("no-store", 0),
        ("no-cache, max-age=600", 0),
        ("s-maxage=5", None),
        ("max-age=soon", None),
        ("max-age=-1", None),
    ],
)
async def test_fetch_returns_keys_and_their_lifetime(
    cache_control: str | None, seconds: float | None
) -> None:
    async with fetching() as (client, server):
        headers = {"Cache_Control": cache_control} if cache_control else {}
        server.paths["/jwks"] = keys("RS256", "first", "second", **headers)
        found = await client.fetch(server.url)
        assert [key["kid"] for key in found.documents] == ["RS256-first", "RS256-second"]
        assert found.max_age == seconds


ELSEWHERE = "http://127.0.0.1:1/jwks"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (hang, "did not respond"),
        (drip, "did not respond"),
        (status(500), "responded with status 500"),
        (status(404), "responded with status 404"),
        (status(302, Location=ELSEWHERE), "responded with status 302"),
        (status(301, Location="/other"), "responded with status 301"),
        (body(b"<html>Please log in</html>"), "is not JSON"),
        (body(b""), "is not JSON"),
        (body(b"[]"), "is not a JSON object"),
        (body(b'{"keys": 5}'), "not a list"),
        (document({"error": "no"}), "no member 'keys'"),
        (document({"keys": [{}] * 101}), "101 keys"),
        (document({"keys": [], "padding": "x" * MAX_ANSWER}), "jwks: "),
        (huge(b"Content-Length: 300000000\r\n"), "jwks: "),
        (huge(b"Transfer-Encoding: chunked\r\n"), "jwks: "),
        (huge(b""), "jwks: "),
        (body(b"{}", Content_Encoding="gzip"), "no member 'keys'"),
    ],
)
async def test_response_that_is_not_a_key_set_is_a_failure(response: Response, reason: str) -> None:
    async with fetching() as (client, server):
        server.paths["/jwks"] = response
        server.paths["/other"] = keys("RS256")
        with pytest.raises(KeysUnusable, match=reason):
            await client.fetch(server.url)


async def test_refused_connection_is_a_failure() -> None:
    client = JwksClient(0.3)
    with pytest.raises(KeysUnusable, match="did not respond"):
        await client.fetch(ELSEWHERE)
    client.close()


async def test_configuration_of_an_issuer_leads_to_its_keys() -> None:
    async with fetching() as (client, server):
        issuer = server.address
        server.paths[CONFIGURATION] = document({"issuer": issuer, "jwks_uri": server.url})
        found = await client.discover(issuer + CONFIGURATION, issuer)
        assert found.documents[0]["kid"] == "RS256-first"


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://somebody.example", "jwks_uri": "{url}"},
        {"issuer": "{issuer}/", "jwks_uri": "{url}"},
        {"issuer": "{issuer}"},
        {"issuer": "{issuer}", "jwks_uri": "http://keys.example/jwks"},
        {"issuer": "{issuer}", "jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "{url}"},
    ],
)
async def test_configuration_without_a_usable_address_is_a_failure(
    configuration: dict[str, str],
) -> None:
    async with fetching() as (client, server):
        filled = {
            name: str(value).format(issuer=server.address, url=server.url)
            for name, value in configuration.items()
        }
        server.paths[CONFIGURATION] = document(filled)
        with pytest.raises(KeysUnusable, match="openid-configuration"):
            await client.discover(server.address + CONFIGURATION, server.address)


async def test_configuration_over_tls_does_not_lead_to_plain_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issuer = "https://login.example.org"
    async with fetching() as (client, server):

        async def configuration(_url: str) -> tuple[bytes, dict[str, str]]:
            return json.dumps({"issuer": issuer, "jwks_uri": server.url}).encode(), {}

        monkeypatch.setattr(client, "_get", configuration)
        with pytest.raises(KeysUnusable, match="not an https URL"):
            await client.discover(f"{issuer}{CONFIGURATION}", issuer)
        assert server.requests == 0
