"""The key sources of all issuers, opened together."""

import logging
from pathlib import Path

import pytest

from tests.support.key_server import key_server
from tests.support.tokens import make_token, public_jwk
from tornado_members.auth.sources import open_key_sources
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.errors import DependencyUnavailable, TokenInvalid
from tornado_members.settings import Settings

TWICE = "https://twice.example.org"


async def test_entries_of_one_issuer_share_a_source_unless_their_keys_differ(folder: Path) -> None:
    async with key_server() as server:
        url = {"url": server.url}
        other = {"keys": [public_jwk("ES256")]}
        issuers = [
            {"issuer": TWICE, "audience": "one", "jwks": url},
            {"issuer": TWICE, "audience": "two", "jwks": url},
            {"issuer": TWICE, "audience": "three", "jwks": other, "algorithms": ["ES256"]},
        ]
        settings = Settings.model_validate({"data_dir": folder, "auth": {"issuers": issuers}})
        async with open_key_sources(settings) as sources:
            assert list(sources) == [TWICE, f"{TWICE} (2)"]
            assert server.requests == 1
            verifier = TokenVerifier(settings.auth, sources)
            for algorithm, audience in (("RS256", "one"), ("RS256", "two"), ("ES256", "three")):
                await verifier.verify(make_token(algorithm, iss=TWICE, aud=audience))
            with pytest.raises(TokenInvalid):
                await verifier.verify(make_token("ES256", iss=TWICE, aud="one"))


async def test_entry_without_keys_does_not_hide_one_that_accepts_the_token(
    folder: Path,
) -> None:
    issuers = [
        {"issuer": TWICE, "audience": "a", "jwks": {"url": "http://127.0.0.1:9/jwks"}},
        {"issuer": TWICE, "audience": ["a", "b"], "jwks": {"keys": [public_jwk("RS256")]}},
    ]
    settings = Settings.model_validate({"data_dir": folder, "auth": {"issuers": issuers}})
    async with open_key_sources(settings) as sources:
        verifier = TokenVerifier(settings.auth, sources)
        assert (await verifier.verify(make_token(iss=TWICE, aud="a"))).subject == "somebody"
        stranger = make_token("RS256", "stranger", iss=TWICE, aud="a")
        with pytest.raises(DependencyUnavailable):  # the first entry might accept it
            await verifier.verify(stranger)


async def test_plain_http_for_keys_is_logged_as_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    jwks = {"url": "http://keys.invalid/jwks", "allow_http": True}
    issuers = [{"issuer": "x", "audience": "y", "jwks": jwks}]
    fetching = {"timeout_ms": 100}
    settings = Settings.model_validate(
        {"data_dir": folder, "auth": {"issuers": issuers, "key_fetching": fetching}}
    )
    async with open_key_sources(settings):
        assert "over plain HTTP from http://keys.invalid/jwks" in caplog.text
