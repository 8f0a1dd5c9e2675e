"""POST /login: what its tokens allow, and what ends them."""

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pymongo
import pytest
from argon2 import PasswordHasher
from tornado.httputil import HTTPServerConnectionDelegate

from tests.support.api import Api, parsed, problem
from tests.support.cases import cases
from tests.support.shared_services import load_revocations
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk
from tornado_members.app import make_app
from tornado_members.auth import login_queue, passwords, revocations
from tornado_members.auth.login_queue import Source
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.passwords import hash_password
from tornado_members.auth.signing import own_signing_key, rotate
from tornado_members.services import Services
from tornado_members.settings import Settings
from tornado_members.storage.users import UserStore

pytestmark = pytest.mark.shared_services

PASSWORD = "correct horse"
Admin = pymongo.MongoClient[dict[str, Any]]


LITTLE_CARE: dict[str, Any] = {"time_cost": 1, "memory_cost": 1024, "parallelism": 1}


@pytest.fixture(autouse=True)
def fast_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real ones take two minutes of a core for these tests; test_passwords.py has them."""
    monkeypatch.setattr(passwords, "PasswordHasher", partial(PasswordHasher, **LITTLE_CARE))


@pytest.fixture
def hashed(fast_hashes: None) -> str:
    return hash_password(PASSWORD)


@pytest.fixture(scope="module")
def keys() -> Iterator[Path]:
    """A key pair, made once because that is slow."""
    with tempfile.TemporaryDirectory(prefix="tornado-members-test-") as name:
        own_signing_key(Path(name, "jwks.json"))
        yield Path(name)


@pytest.fixture(autouse=True)
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revoked tokens are polled often; test_revocations.py has the real interval."""
    monkeypatch.setattr(revocations, "next_tick", partial(asyncio.sleep, 0.05))


@pytest.fixture
def key_file(keys: Path) -> Path:
    return keys / "jwks.json"


@pytest.fixture
def settings(settings: Settings, key_file: Path) -> Settings:
    """With an own issuer beside the issuer of all tests."""
    own = {"issuer": "us", "audience": "members", "jwks": {"file": key_file}}
    other = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": {"keys": [public_jwk("RS256")]},
    }
    return Settings.model_validate(
        {
            **settings.model_dump(),
            "auth": {"own_issuer": "us", "issuers": [own, other]},
            # A window that outlasts every test.
            "login": {"attempts_per_user_and_address": 3, "window_seconds": 86400},
        }
    )


@pytest.fixture
def app(services: Services, admin: Admin, hashed: str) -> HTTPServerConnectionDelegate:
    """With two users."""
    for username, rights in (("ada", 2), ("blocked", 0)):
        admin["test"]["users"].insert_one(
            {"username": username, "password_hash": hashed, "access_rights": rights}
        )
    return make_app(services)


@pytest.fixture
def users(services: Services) -> UserStore:
    assert services.login
    return services.login._users


async def log_in(api: Api, username: str = "ada", password: str = PASSWORD) -> Any:
    return await api("POST", "/login", {"username": username, "password": password}, rights=None)


def bearer(response: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {parsed(response)['access_token']}"}


async def test_login_with_the_right_password_returns_a_token(api: Api) -> None:
    response = await log_in(api)
    assert response.code == 200
    assert response.headers["Cache-Control"] == "no-store"
    body = parsed(response)
    assert set(body) == {"access_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    published = await api("GET", "/.well-known/jwks.json", rights=None)
    assert published.headers["Content-Type"] == "application/json"
    keys = jwt.PyJWKSet.from_dict(parsed(published))
    claims = jwt.decode(
        body["access_token"], keys.keys[0], algorithms=["RS256"], audience="members", issuer="us"
    )
    assert claims["exp"] - claims["iat"] == 900
    assert (claims["sub"], claims["access_rights"]) == ("ada", 2)
    headers = bearer(response)
    assert (await api("PUT", "/members", {"name": "X"}, headers=headers)).code == 201
    problem(await api("DELETE", "/members/1", headers=headers), 403, "permission-missing")


async def test_login_answers_a_wrong_password_like_an_unknown_user(api: Api) -> None:
    answers = [
        problem(await log_in(api, username, "wrong"), 401, "login-failed")["detail"]
        for username in ("ada", "nobody", "blocked", "x" * 5000, "\n", "")
    ]
    assert len(set(answers)) == 1


async def test_login_of_an_unknown_user_hashes_as_often_as_a_wrong_password(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time cannot be compared reliably, but the number of hashes, which take the time, can."""
    await log_in(api)  # makes the hash that stands for unknown users
    hashes = []
    verify = PasswordHasher.verify

    def counting(self: PasswordHasher, hashed: str, password: str) -> bool:
        hashes.append(hashed.split("$")[:4])
        return verify(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", counting)
    for username in ("ada", "nobody"):
        problem(await log_in(api, username, "wrong"), 401, "login-failed")
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]  # with the same parameters


async def test_login_reports_a_block_only_with_the_right_password(api: Api) -> None:
    problem(await log_in(api, "blocked"), 403, "user-blocked")
    problem(await log_in(api, "blocked", "wrong"), 401, "login-failed")


async def test_login_limits_guesses(api: Api) -> None:
    guesses = await asyncio.gather(*(log_in(api, password=f"guess-{n}") for n in range(10)))
    codes = sorted(response.code for response in guesses)
    assert codes == [401] * 3 + [429] * 7
    stopped = await log_in(api)
    problem(stopped, 429, "too-many-attempts")
    assert 1 <= int(stopped.headers["Retry-After"]) <= 86400
    problem(await log_in(api, "somebody else", "wrong"), 401, "login-failed")


async def test_login_often_and_concurrently_is_not_limited(api: Api) -> None:
    answers = await asyncio.gather(*(log_in(api) for _ in range(8)))
    assert [answer.code for answer in answers] == [200] * 8


async def test_login_beyond_the_queue_is_refused_with_retry_after(
    api: Api, services: Services
) -> None:
    assert services.login
    queue = services.login._queue
    queue._others._max_waiting = 1
    async with queue.turn(Source(b"somebody")):
        logins = [asyncio.create_task(log_in(api)) for _ in range(3)]
        refused, waiting = await asyncio.wait(logins, return_when=asyncio.FIRST_COMPLETED)
        while len(refused) < 2:
            refused, waiting = await asyncio.wait(logins, timeout=0.05)
    for answer in [login.result() for login in refused]:
        problem(answer, 503, "overloaded")
        assert answer.headers["Retry-After"] == "1"
    assert [(await login).code for login in waiting] == [200]


async def test_login_normalizes_usernames_and_passwords(api: Api, users: UserStore) -> None:
    await users.add("Zo\u00eb", hash_password("caf\u00e9 au lait"), 1)
    assert (await log_in(api, " Zoe\u0308 ", "cafe\u0301 au lait")).code == 200


async def test_login_with_an_overlong_username_is_refused(api: Api) -> None:
    problem(await log_in(api, "ada" + " " * 1017 + "zzz"), 401, "login-failed")


async def test_login_replaces_a_hash_of_weaker_parameters(
    api: Api, admin: Admin, users: UserStore
) -> None:
    await users.add("bob", PasswordHasher(time_cost=1, memory_cost=64).hash(PASSWORD), 1)
    assert (await log_in(api, "bob")).code == 200
    document = admin["test"]["users"].find_one({"username": "bob"})
    assert document
    assert "m=1024,t=1" in document["password_hash"]
    assert (await log_in(api, "bob")).code == 200
    assert document["generation"] == 1


@cases(
    ("body", "pointers"),
    [
        ({}, ["/username", "/password"]),
        ({"username": "ada", "password": 5}, ["/password"]),
        ({"username": None, "password": ""}, ["/username"]),
        ({"username": "ada", "password": "x", "remember~me/": 1}, ["/remember~0me~1"]),
        ({"username": "\ud800", "password": "\udfff"}, ["/username", "/password"]),
    ],
)
async def test_login_with_an_invalid_body_is_refused(
    api: Api, body: Any, pointers: list[str]
) -> None:
    response = await api("POST", "/login", body, rights=None)
    faults = problem(response, 422, "invalid-credentials-body")["errors"]
    assert [fault["pointer"] for fault in faults] == pointers


async def test_login_refuses_a_form(api: Api) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await api("POST", "/login", raw=b"username=ada", rights=None, headers=headers)
    problem(response, 415, "unsupported-media-type")


async def test_login_has_one_method(api: Api) -> None:
    response = await api("GET", "/login", rights=None)
    problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "POST, OPTIONS"


async def test_blocking_takes_effect_on_tokens_already_issued(api: Api, users: UserStore) -> None:
    headers = bearer(await log_in(api))
    await api.create("X")
    assert (await api("GET", "/members/1", headers=headers)).code == 200
    await users.set_rights("ada", 0)
    await within_a_second_and_some(api, headers, 403)
    await users.set_rights("ada", 3)
    await within_a_second_and_some(api, headers, 401)  # the token was revoked for good
    headers = bearer(await log_in(api))
    assert (await api("GET", "/members/1", headers=headers)).code == 200


@pytest.mark.parametrize("change", ["fewer rights", "password", "removal"])
async def test_changes_of_a_user_end_its_issued_tokens(
    api: Api, users: UserStore, hashed: str, change: str
) -> None:
    await api.create("X")
    headers = bearer(await log_in(api))
    if change == "fewer rights":
        await users.set_rights("ada", 1)
    elif change == "password":
        await users.set_password("ada", hashed)
    else:
        await users.remove("ada", keep=60)
    await within_a_second_and_some(api, headers, 403 if change == "removal" else 401)


async def test_user_bound_to_a_member_cannot_access_others(
    api: Api, users: UserStore, hashed: str
) -> None:
    for name in ("X", "Y"):
        await api.create(name)
    await users.add("bound", hashed, 0, member_id=1)
    headers = bearer(await log_in(api, "bound"))
    assert (await api("GET", "/members/me", headers=headers)).code == 200
    own = await api("PUT", "/members/1", {"name": "X", "phone": "123"}, headers=headers)
    assert own.code == 200
    for method, path in (("GET", "/members/2"), ("GET", "/members"), ("DELETE", "/members/1")):
        assert (await api(method, path, headers=headers)).code == 403
    await users.set_member("bound", 2)
    await within_a_second_and_some(api, headers, 401)
    headers = bearer(await log_in(api, "bound"))
    assert (await api("GET", "/members/2", headers=headers)).code == 200
    assert (await api("GET", "/members/1", headers=headers)).code == 403
    await users.set_rights("bound", 1)  # more rights leave its tokens valid
    both = bearer(await log_in(api, "bound"))
    await within_a_second_and_some(api, both, 200)
    assert (await api("PUT", "/members/me", {"name": "Z"}, headers=both)).code == 200
    assert (await api("PUT", "/members/1", {"name": "Z"}, headers=both)).code == 403
    await users.set_member("bound", None)
    await users.set_rights("bound", 0)
    await within_a_second_and_some(api, both, 403)  # without rights and member: blocked
    problem(await log_in(api, "bound"), 403, "user-blocked")


async def test_token_without_generation_is_limited_to_its_bound_user(
    api: Api, users: UserStore, services: Services, settings: Settings
) -> None:
    """For example, a token that the command prints."""
    await api.create("X")
    await users.add("bound", "", 0, member_id=1)
    own = OwnIssuer.from_settings(settings)
    assert own
    assert own.jwks_file
    everything = {"access_rights": 3, "scope": "members:read:own members:delete"}
    claims = own.claims("bound", 60, member_id=1, **everything)
    headers = {"Authorization": f"Bearer {own_signing_key(own.jwks_file).sign(claims)}"}
    assert services.login
    async with asyncio.timeout(60):
        while (await api("GET", "/members", headers=headers)).code != 403:
            await asyncio.sleep(0.05)
    assert (await api("GET", "/members/1", headers=headers)).code == 200
    assert (await api("DELETE", "/members/1", headers=headers)).code == 403


async def within_a_second_and_some(api: Api, headers: dict[str, str], status: int) -> None:
    """Wait for a status that only the check for blocked users causes."""
    async with asyncio.timeout(60):
        while (await api("GET", "/members/1", headers=headers)).code != status:
            await asyncio.sleep(0.05)


async def test_tokens_of_other_issuers_ignore_blocks_here(
    api: Api, services: Services, users: UserStore
) -> None:
    await users.add("somebody", "", 0)  # the subject of the tests' tokens
    known = await load_revocations(services)
    assert known
    assert "somebody" in known._states
    assert (await api("PUT", "/members", {"name": "X"})).code == 201


@pytest.mark.own_services
class TestKeyFiles:
    """Files that change while the service runs."""

    @pytest.fixture
    def key_file(self, keys: Path, folder: Path) -> Path:
        return shutil.copytree(keys, folder / "keys") / "jwks.json"

    async def test_rotated_key_signs_and_old_tokens_remain_valid(
        self, api: Api, key_file: Path
    ) -> None:
        await api.create("X")
        before = bearer(await log_in(api))
        await asyncio.to_thread(rotate, key_file, 60, spread_seconds=1.2)
        after = bearer(await log_in(api))
        for headers in (before, after):
            assert (await api("GET", "/members/1", headers=headers)).code == 200
        kids = [jwt.get_unverified_header(h["Authorization"][7:])["kid"] for h in (before, after)]
        assert kids[0] != kids[1] == own_signing_key(key_file).kid
        published = parsed(await api("GET", "/.well-known/jwks.json", rights=None))
        assert {key["kid"] for key in published["keys"]} == set(kids)

    async def test_last_key_signs_while_the_key_file_is_unreadable(
        self, api: Api, key_file: Path
    ) -> None:
        key_file.with_name("signing.pem").write_text("nonsense")
        assert (await log_in(api)).code == 200


class TestWithoutLogin:
    """login.enabled: false"""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return Settings.model_validate({**settings.model_dump(), "login": {"enabled": False}})

    async def test_login_has_no_route(self, api: Api) -> None:
        for method in ("POST", "GET", "OPTIONS"):
            problem(await api(method, "/login", rights=None), 404, "not-found")
        assert (await api("GET", "/.well-known/jwks.json", rights=None)).code == 200


class TestWhoseKeysAreElsewhere:
    """The own issuer's keys are not in a local file: another service signs for it."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        issuer = {**settings.auth.issuers[1].model_dump(), "issuer": "us"}
        auth = {"own_issuer": "us", "issuers": [issuer]}
        return Settings.model_validate({**settings.model_dump(), "auth": auth})

    async def test_block_applies_to_tokens_of_the_other_service(
        self, api: Api, admin: Admin
    ) -> None:
        headers = {"Authorization": f"Bearer {make_token(iss='us', sub='ada', access_rights=1)}"}
        assert (await api("GET", "/members/1", headers=headers)).code == 404
        admin["test"]["users"].update_one({"username": "ada"}, {"$set": {"access_rights": 0}})
        await within_a_second_and_some(api, headers, 403)


class TestWithoutOurAlgorithm:
    """The issuer's settings do not accept the service's own signatures."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        issuer = {**settings.auth.issuers[0].model_dump(), "algorithms": ["ES256"]}
        auth = {"own_issuer": "us", "issuers": [issuer, settings.auth.issuers[1].model_dump()]}
        return Settings.model_validate({**settings.model_dump(), "auth": auth})

    async def test_login_is_unavailable(self, api: Api) -> None:
        problem(await api("POST", "/login", rights=None), 404, "not-found")


class TestWithoutAKey:
    """auth.own_issuer is not an issuer with a key here."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        other = json.loads(settings.auth.model_dump_json())
        other["issuers"] = [settings.auth.issuers[1].model_dump()]
        return Settings.model_validate({**settings.model_dump(), "auth": other})

    async def test_login_and_key_set_are_unavailable(self, api: Api) -> None:
        problem(await api("POST", "/login", rights=None), 404, "not-found")
        problem(await api("GET", "/.well-known/jwks.json", rights=None), 404, "not-found")
        assert (await api("GET", "/members")).code == 200


class TestUnderAttack:
    """Clients of many addresses, which a trusted proxy names."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        server = {**settings.server.model_dump(), "trusted_proxies": ["127.0.0.0/8"]}
        limits = {**settings.login.model_dump(), "attempts_per_user": 10}
        return Settings.model_validate({**settings.model_dump(), "server": server, "login": limits})

    async def log_in(
        self, api: Api, address: str, username: str = "ada", password: str = PASSWORD
    ) -> int:
        """Log in from an address; return the status."""
        body = {"username": username, "password": password}
        headers = {"X-Forwarded-For": address}
        return int((await api("POST", "/login", body, rights=None, headers=headers)).code)

    @pytest.mark.parametrize("addresses", [1, 15])
    async def test_user_logs_in_during_a_flood(
        self,
        api: Api,
        http_server_client: Any,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
        addresses: int,
    ) -> None:
        assert services.login
        passwords = services.login.passwords
        verify = passwords.verify

        async def slowly(*arguments: Any) -> bool:
            await asyncio.sleep(0.02)
            return await verify(*arguments)

        monkeypatch.setattr(passwords, "verify", slowly)
        monkeypatch.setattr(login_queue, "_MAX_SECONDS", 3600)  # only its order matters here
        for queue in services.login._queue._queues:
            queue._max_waiting = 16
        http_server_client.max_clients = 50  # concurrent requests; the client queues all others
        answers: Counter[int] = Counter()
        over = asyncio.Event()

        async def flood(number: int) -> None:
            address = f"198.51.100.{number % addresses}"
            while not over.is_set():
                status = await self.log_in(api, address, f"user-{number}", "wrong")
                answers[status] += 1
                if status != 401:  # the client shares its loop with the service
                    with suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), 0.5)

        floods = [asyncio.create_task(flood(number)) for number in range(30)]
        while not answers[503]:  # until more arrive than can be hashed
            await asyncio.sleep(0.01)
        statuses = [await self.log_in(api, "203.0.113.7") for _ in range(3)]
        over.set()
        await asyncio.gather(*floods)
        assert statuses == [200] * 3, answers

    async def test_wrong_passwords_do_not_lock_out_recent_users(self, api: Api) -> None:
        assert await self.log_in(api, "203.0.113.7") == 200
        for number in range(5):
            for _ in range(3):
                await self.log_in(api, f"198.51.100.{number}", password="wrong")
        assert await self.log_in(api, "203.0.113.8") == 429
        assert await self.log_in(api, "203.0.113.7") == 200
