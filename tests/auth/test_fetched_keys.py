"""Fetched keys: refreshed in advance, kept through outages, and requested sparingly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.key_server import KeyServer, document, hang, key_server, keys, status
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk
from tests.support.waiting import until
from tornado_members.auth.fetched_keys import FetchedKeys
from tornado_members.auth.jwks_client import JwksClient
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.errors import DependencyUnavailable, TokenInvalid
from tornado_members.settings import Auth, KeyFetching


class Issuer:
    """A key server, the source that fetches from it, and a verifier that uses the source."""

    def __init__(self, server: KeyServer, timeout_ms: int = 20_000, **settings: Any) -> None:
        self.server = server
        self.now = 0.0
        self.client = JwksClient(timeout=timeout_ms / 1000)
        fetching = KeyFetching.model_validate({"timeout_ms": timeout_ms, **settings})
        self.source = FetchedKeys(
            ISSUER, lambda: self.client.fetch(server.url), fetching, clock=lambda: self.now
        )
        auth = Auth.model_validate({"issuers": [{"issuer": ISSUER, "audience": AUDIENCE}]})
        self.verifier = TokenVerifier(auth, {ISSUER: self.source})

    async def accepts(self, key_name: str = "first") -> bool:
        """True if a new token signed with this key is accepted."""
        try:
            await self.verifier.verify(make_token("RS256", key_name))
        except TokenInvalid:
            return False
        return True


@asynccontextmanager
async def an_issuer(**settings: Any) -> AsyncIterator[Issuer]:
    async with key_server() as server:
        issuer = Issuer(server, **settings)
        try:
            yield issuer
        finally:
            await issuer.source.close()
            issuer.client.close()


async def test_keys_are_fetched_at_the_start_and_not_for_every_token() -> None:
    async with an_issuer() as issuer:
        await issuer.source.open()
        for _ in range(5):
            assert await issuer.accepts()
        assert issuer.server.requests == 1


async def test_rotated_key_is_accepted_at_its_first_token_and_the_old_one_refused() -> None:
    async with an_issuer(cooldown_seconds=10) as issuer:
        await issuer.source.open()
        old = make_token("RS256")
        await issuer.verifier.verify(old)
        issuer.server.paths["/jwks"] = keys("RS256", "second")
        issuer.now = 10
        assert await issuer.accepts("second")
        with pytest.raises(TokenInvalid):
            await issuer.verifier.verify(old)
        assert issuer.server.requests == 2


async def test_unknown_keys_cause_one_fetch_per_cool_down() -> None:
    async with an_issuer(cooldown_seconds=10) as issuer:
        await issuer.source.open()
        for round_ in range(1, 4):
            issuer.now += 10
            tokens = [make_token(headers={"kid": f"unknown-{n}"}) for n in range(40)]
            refused = await asyncio.gather(
                *map(issuer.verifier.verify, tokens), return_exceptions=True
            )
            assert {type(error) for error in refused} == {TokenInvalid}
            assert not await issuer.accepts("stranger")
            assert issuer.server.requests == 1 + round_


@pytest.mark.parametrize("failure", [hang, status(500), document({"keys": []})])
async def test_last_good_keys_remain_for_a_while_if_fetches_fail(
    failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with an_issuer(cooldown_seconds=10, keep_seconds=100) as issuer:
        await issuer.source.open()
        issuer.server.paths["/jwks"] = failure
        issuer.client._timeout = 0.2
        issuer.now = 100
        assert not await issuer.accepts("second")
        assert issuer.server.requests == 2
        assert await issuer.accepts()
        issuer.now = 101
        with pytest.raises(DependencyUnavailable) as away:
            await issuer.accepts()
        assert int(away.value.headers["Retry-After"]) >= 1
        assert "example" not in away.value.detail
    assert not [record for record in caplog.records if record.exc_info]


async def test_request_does_not_wait_long_for_a_hanging_issuer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tornado_members.auth.fetched_keys._MAX_WAIT", 0.01)
    async with an_issuer(cooldown_seconds=10, timeout_ms=20_000) as issuer:
        await issuer.source.open()
        issuer.server.paths["/jwks"] = hang
        issuer.now = 10
        async with asyncio.timeout(60):
            assert not await issuer.accepts("second")
            assert await issuer.accepts()


async def test_service_without_keys_is_unavailable_and_recovers() -> None:
    async with an_issuer() as issuer:
        issuer.server.paths["/jwks"] = status(500)
        await issuer.source.open()
        with pytest.raises(DependencyUnavailable):
            await issuer.accepts()
        issuer.server.paths["/jwks"] = keys("RS256")
        issuer.now = issuer.source._due
        issuer.source._refreshing.cancel()  # type: ignore[union-attr]  # it sleeps by another clock
        issuer.source._refreshing = asyncio.create_task(issuer.source._refresh_periodically())
        await until(lambda: issuer.source._keys is not None)
        assert await issuer.accepts()


async def test_keys_are_fetched_again_before_they_expire() -> None:
    """With the real clock: a max-age of one second, and bounds that allow it."""
    async with an_issuer(min_refresh_seconds=0.1) as issuer:
        issuer.source._clock = asyncio.get_running_loop().time
        issuer.server.paths["/jwks"] = keys("RS256", "first", Cache_Control="max-age=0")
        await issuer.source.open()
        before = issuer.source.keys()
        await until(lambda: issuer.server.requests >= 4)
        assert issuer.source.keys() is before  # nothing has changed: tokens stay remembered
        issuer.server.paths["/jwks"] = keys("RS256", "second", Cache_Control="max-age=0")
        await until(lambda: issuer.source.keys() is not before)
        assert not await issuer.accepts("first")


@pytest.mark.parametrize(
    ("max_age", "least", "most"),
    [
        ("max-age=600", 480, 570),
        ("max-age=1", 60, 60),
        ("max-age=99999", 3600, 3600),
        ("", 240, 285),
    ],
)
async def test_next_fetch_depends_on_max_age(max_age: str, least: float, most: float) -> None:
    async with an_issuer() as issuer:
        issuer.server.paths["/jwks"] = keys("RS256", "first", Cache_Control=max_age)
        await issuer.source.open()
        assert least <= issuer.source._due <= most


async def test_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with an_issuer(cooldown_seconds=10) as issuer:
        await issuer.source.open()
        issuer.server.paths["/jwks"] = status(503)
        for _ in range(5):
            issuer.now += 10
            await issuer.source.refresh()
        logged = [record for record in caplog.records if record.levelname == "ERROR"]
        assert [record.message for record in logged] == [
            f"the keys of {ISSUER} cannot be fetched: {issuer.server.url}: "
            "responded with status 503; "
            "the old ones are used"
        ]


async def test_token_without_kid_causes_no_fetch_among_many_keys() -> None:
    """A token without kid cannot name a new key: it causes no fetch."""
    async with an_issuer(cooldown_seconds=10) as issuer:
        two = [public_jwk("RS256", "first"), public_jwk("RS256", "second")]
        issuer.server.paths["/jwks"] = document({"keys": two})
        await issuer.source.open()
        issuer.now = 10
        with pytest.raises(TokenInvalid):
            await issuer.verifier.verify(make_token(headers={"kid": None}))
        assert issuer.server.requests == 1


async def test_rotated_key_without_kid_is_accepted_at_its_first_token() -> None:
    """No token can name the new key, so a signature that fails causes the fetch."""

    def nameless(name: str) -> Any:
        jwk = {k: v for k, v in public_jwk("RS256", name).items() if k != "kid"}
        return document({"keys": [jwk]})

    async with an_issuer(cooldown_seconds=10) as issuer:
        issuer.server.paths["/jwks"] = nameless("first")
        await issuer.source.open()
        assert await issuer.accepts()
        issuer.server.paths["/jwks"] = nameless("second")
        issuer.now = 10
        for headers in ({"kid": None}, {"kid": "any"}):
            await issuer.verifier.verify(make_token("RS256", "second", headers))
        assert issuer.server.requests == 2
        with pytest.raises(TokenInvalid):
            await issuer.verifier.verify(make_token("RS256", "first", {"kid": None}))
        assert issuer.server.requests == 2  # the cool-down is still in effect


async def test_set_with_foreign_keys_is_logged_once_per_version(
    caplog: pytest.LogCaptureFixture,
) -> None:
    foreign = {"kty": "oct", "k": "c2VjcmV0", "kid": "hmac"}
    async with an_issuer(min_refresh_seconds=0.1) as issuer:
        issuer.server.paths["/jwks"] = document({"keys": [foreign, public_jwk("RS256")]})
        for _ in range(3):
            await issuer.source._attempt_once()
            assert await issuer.accepts()
        warnings = [record for record in caplog.records if "left out key 0" in record.message]
        assert len(warnings) == 1
        left_out = issuer.source.state().left_out
        assert left_out
        assert "key 0: it is secret" in left_out
        issuer.server.paths["/jwks"] = document({"keys": [public_jwk("RS256")]})
        await issuer.source._attempt_once()
        assert issuer.source.state().left_out is None
