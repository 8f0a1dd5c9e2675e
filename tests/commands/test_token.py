"""The command token."""

import time
from pathlib import Path

import jwt
import pytest

from tests.support.service import Command
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk, verify
from tornado_members.auth.keys import FileKeys
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.settings import load_settings


@pytest.fixture
def command(folder: Path) -> Command:
    return Command(folder)


def test_token_prints_an_accepted_token_and_nothing_else(command: Command) -> None:
    finished = command.run_alone("token", "--rights", "3")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count("\n") == 1
    settings = load_settings(command.config)
    keys = FileKeys(command.data / "keys" / "jwks.json")
    verifier = TokenVerifier(settings.auth, {"tornado-members": keys})
    caller = verify(verifier, finished.stdout.strip())
    assert caller.subject == "developer"
    assert caller.permissions == {"members:read", "members:write", "members:delete"}
    scoped = verify(verifier, command.token("--scope", "members:read", "--sub", "ada"))
    assert scoped.subject == "ada"
    assert scoped.permissions == {"members:read"}


@pytest.mark.parametrize(
    ("given", "seconds"), [("90", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("-60", -60)]
)
def test_token_expires_after_the_requested_time(command: Command, given: str, seconds: int) -> None:
    token = command.token("--rights", "1", "--expires", given)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert abs(claims["exp"] - time.time() - seconds) < 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required"),
        (["--rights", "4"], "invalid choice"),
        (["--rights", "1", "--scope", "x"], "not allowed with"),
        (["--rights", "1", "--expires", "soon"], "15m"),
        (["--scope", "members:read:own", "--member", "0"], "the id of a member"),
        (["--rights", "1", "--expires", "2d"], "auth.max_lifetime_seconds"),
        (["--rights", "1", "--config", "missing.yaml"], "cannot be read"),
    ],
)
def test_token_reports_invalid_arguments(
    command: Command, arguments: list[str], words: str
) -> None:
    finished = command.run("token", *arguments)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert words in finished.stderr
    assert "Traceback" not in finished.stderr


def test_token_without_an_own_key_is_an_error(folder: Path) -> None:
    issuers = [{"issuer": "somebody", "audience": "members", "jwks": {"keys": []}}]
    finished = Command(folder, {"auth": {"issuers": issuers}}).run("token", "--rights", "1")
    assert finished.returncode == 2
    assert "auth.own_issuer" in finished.stderr


REMOTE = "https://login.example.org"


@pytest.fixture
def explaining(folder: Path) -> Command:
    issuers = [
        {"issuer": "tornado-members", "audience": "members"},
        {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks": {"keys": [public_jwk("RS256")]},
            "permissions": {
                "at_most": ["members:read"],
                "claims": [
                    {"claim": "scp", "values": {"rw": ["members:read", "members:write"]}},
                    {"claim": ["realm_access", "roles"], "values": {"x": ["members:read"]}},
                ],
            },
        },
        {"issuer": REMOTE, "audience": "one"},
        {"issuer": REMOTE, "client_ids": "two"},
    ]
    return Command(folder, {"auth": {"issuers": issuers}})


@pytest.mark.parametrize(
    ("token", "code", "lines"),
    [
        (
            make_token(scp="rw"),
            0,
            ["ok  kid", "verifies", "at_most caps", "grants: members:read\n"],
        ),
        (make_token(scp=["r"]), 1, ['scp is ["r"], which grants nothing', "NO  403"]),
        (
            make_token(realm_access={"roles": 7}),
            1,
            ["realm_access.roles is 7, which grants nothing"],
        ),
        (
            make_token(scp="rw", aud="x"),
            1,
            ['NO  aud is "x"; accepted: ["members-test"]', "NO  401"],
        ),
        (make_token(exp=None), 1, ["exp absent", "lacks the claim exp"]),
        (make_token(exp="soon", nbf=1e300), 1, ['exp "soon"', "that is not a date"]),
        (make_token(iat=1, exp=2), 1, ["exp 1970-01-01 00:00:02 UTC", "has expired"]),
        (make_token(sub=["x"]), 1, ['NO  sub (subject_claim) is ["x"]', "NO  401"]),
        (make_token(cnf={"jkt": "x"}), 1, ['NO  cnf is {"jkt": "x"}']),
        (make_token(headers={"typ": "dpop+jwt"}), 1, ['NO  typ is "dpop+jwt"']),
        (make_token("RS256", "stranger"), 1, ['NO  kid "RS256-stranger" names no key for RS256']),
        (make_token("ES256"), 1, ["names no key for ES256; its keys: none"]),
        (make_token("RS256", "stranger", {"kid": "RS256-first"}), 1, ["does not verify"]),
        (make_token(iss="x"), 1, ['iss "x" is not in auth.issuers, which has: ' + ISSUER]),
        (make_token(iss=REMOTE, aud="one"), 1, ["the keys are fetched", "scope is absent"]),
        (make_token(iss=REMOTE, aud="one", scope="members:read"), 0, ["grants: members:read"]),
        (
            make_token(iss=REMOTE, aud=None, azp="two", access_rights=0, scope="members:read"),
            1,
            ["access_rights is 0, which blocks the token", "NO  403", '--- the entry for ["two"]'],
        ),
        ("nonsense", 1, ["NO  401: The token is not a JSON Web Token."]),
        ("", 1, ["NO  401: The token is not a JSON Web Token."]),
        (make_token(padding="x" * 20_000), 1, ["longer than 16384 bytes (auth.max_token_bytes)"]),
    ],
)
def test_explain_agrees_with_the_service_and_does_not_print_the_token(
    explaining: Command, token: str, code: int, lines: list[str]
) -> None:
    finished = explaining.run("token", "explain", stdin=f"Authorization: Bearer {token}\n")
    assert (finished.returncode, finished.stderr) == (code, ""), finished.stdout
    for words in lines:
        assert words in finished.stdout
    for part in filter(None, token.split(".")[1:]):
        assert part not in finished.stdout


def test_explain_creates_no_key(explaining: Command) -> None:
    other = make_token(iss="tornado-members", aud="members", access_rights=1)
    finished = explaining.run("token", "explain", stdin=other)
    assert "NO  the signature cannot be checked" in finished.stdout
    assert not (explaining.data / "keys").exists()
    own = explaining.token("--rights", "2")
    finished = explaining.run("token", "explain", stdin=own)
    assert finished.returncode == 0
    assert "access_rights is 2, which grants members:read, members:write" in finished.stdout
    assert "not checked: whether this user was blocked" in finished.stdout
