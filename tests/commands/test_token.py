"""scripts/token, as a process."""

import time
from pathlib import Path

import jwt
import pytest

from tests.support.service import Command
from tests.support.tokens import verify
from tornado_members.auth.keys import FileKeys
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.settings import load_settings


@pytest.fixture
def command(folder: Path) -> Command:
    return Command(folder)


def test_it_prints_a_token_that_is_accepted_and_nothing_else(command: Command) -> None:
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
def test_how_long_it_is_valid(command: Command, given: str, seconds: int) -> None:
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
        (["--rights", "1", "--expires", "2d"], "auth.max_lifetime_seconds"),
        (["--rights", "1", "--config", "missing.yaml"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told(command: Command, arguments: list[str], words: str) -> None:
    finished = command.run("token", *arguments)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert words in finished.stderr
    assert "Traceback" not in finished.stderr


def test_without_a_key_of_its_own_it_says_so(folder: Path) -> None:
    issuers = [{"issuer": "somebody", "audience": "members", "jwks": {"keys": []}}]
    finished = Command(folder, {"auth": {"issuers": issuers}}).run("token", "--rights", "1")
    assert finished.returncode == 2
    assert "auth.own_issuer" in finished.stderr
