"""The command keys, which rotates the signing key."""

import json
import time
from pathlib import Path

import jwt
import pytest

from tests.support.service import Command
from tests.support.tokens import public_jwk, verify
from tornado_members.auth import signing
from tornado_members.auth.key_set import KeysUnusable
from tornado_members.auth.keys import _CHECK_SECONDS, FileKeys
from tornado_members.auth.signing import own_signing_key, rotate
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.errors import TokenInvalid
from tornado_members.settings import load_settings


class Clock:
    """Seconds since the epoch, which a test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Installation:
    """A command, and a verifier like that of the service."""

    def __init__(self, folder: Path) -> None:
        self.command = Command(folder, {"auth": {"max_lifetime_seconds": 3600}})
        self.jwks = self.command.data / "keys" / "jwks.json"
        own_signing_key(self.jwks)
        self.clock = Clock()
        keys = FileKeys(self.jwks, lambda: 0.0)
        auth = load_settings(self.command.config).auth
        self.verifier = TokenVerifier(auth, {"tornado-members": keys}, clock=self.clock)

    def read_the_file_again(self) -> None:
        for source in self.verifier._key_sources.values():
            assert isinstance(source, FileKeys)
            source._check()

    def accepts(self, token: str) -> bool:
        try:
            verify(self.verifier, token)
        except TokenInvalid:
            return False
        return True


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a rotation, in seconds, which take no time."""
    found: list[float] = []
    monkeypatch.setattr("tornado_members.auth.signing.time.sleep", found.append)
    return found


@pytest.fixture
def installation(folder: Path) -> Installation:
    return Installation(folder)


def test_rotate_keeps_the_old_key_until_its_last_token_has_expired(
    installation: Installation, pauses: list[float]
) -> None:
    old = installation.command.token("--rights", "1", "--expires", "1h")
    assert installation.accepts(old)
    finished = installation.command.run("keys", "rotate")
    assert finished.returncode == 0
    assert sum(pauses) >= 2 * _CHECK_SECONDS  # services have read the new key
    installation.read_the_file_again()
    new = installation.command.token("--rights", "1", "--expires", "1h")
    kids = [jwt.get_unverified_header(token)["kid"] for token in (old, new)]
    assert all(kid in finished.stdout for kid in kids)
    assert installation.accepts(old)
    assert installation.accepts(new)
    # A leaked old key can sign any token, but only until it expires.
    old_key = [key for key in json.loads(installation.jwks.read_text())["keys"] if "exp" in key]
    assert [key["kid"] for key in old_key] == [kids[0]]
    installation.clock.now = old_key[0]["exp"]
    assert not installation.accepts(old)


def test_cached_token_is_refused_when_its_key_expires(installation: Installation) -> None:
    """The end of a key applies to its tokens, cached or not."""
    forged = own_signing_key(installation.jwks)
    rotate(installation.jwks, 60, spread_seconds=0)
    installation.read_the_file_again()
    now = int(installation.clock.now)
    claims = {"iss": "tornado-members", "aud": "members", "sub": "x", "iat": now, "exp": now + 3600}
    token = forged.sign(claims)
    assert installation.accepts(token)
    installation.clock.now += 62
    assert not installation.accepts(token)


def test_rotate_at_once_ends_the_old_key(installation: Installation, pauses: list[float]) -> None:
    old = installation.command.token("--rights", "1")
    assert installation.accepts(old)
    finished = installation.command.run("keys", "rotate", "--at-once")
    assert finished.returncode == 0
    assert "no longer valid" in finished.stdout
    assert pauses  # services have to read the new key here, too
    installation.read_the_file_again()
    assert not installation.accepts(old)
    assert installation.accepts(installation.command.token("--rights", "1"))
    assert len(json.loads(installation.jwks.read_text())["keys"]) == 1


def test_rotate_works_before_the_first_start(folder: Path) -> None:
    file = folder / "keys" / "jwks.json"
    rotate(file, 60, spread_seconds=0)
    assert len(json.loads(file.read_text())["keys"]) == 2


def test_rotate_at_once_ends_every_own_key_and_no_other(installation: Installation) -> None:
    first = installation.command.token("--rights", "1")
    rotate(installation.jwks, 3600, spread_seconds=0)
    document = json.loads(installation.jwks.read_text())
    document["keys"].append(public_jwk("RS256", "somebody's"))
    installation.jwks.write_text(json.dumps(document))
    rotate(installation.jwks, 0, spread_seconds=0)
    installation.read_the_file_again()
    assert not installation.accepts(first)
    kids = [key["kid"] for key in json.loads(installation.jwks.read_text())["keys"]]
    assert kids == [own_signing_key(installation.jwks).kid, "RS256-somebody's"]


def test_rotate_completes_an_interrupted_rotation(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = own_signing_key(installation.jwks).kid
    write, writes = signing._write, 0

    def cut_off(*arguments: object, **options: object) -> None:
        nonlocal writes
        writes += 1
        if writes == 3:
            raise KeyboardInterrupt
        write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(signing, "_write", cut_off)
    with pytest.raises(KeyboardInterrupt):
        rotate(installation.jwks, 60, spread_seconds=0)
    rotate(installation.jwks, 60, spread_seconds=0)
    ends = {key["kid"]: key.get("exp") for key in json.loads(installation.jwks.read_text())["keys"]}
    assert ends[old]
    assert [kid for kid, end in ends.items() if not end] == [own_signing_key(installation.jwks).kid]


def test_rotate_removes_expired_keys(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.time()
    for n in range(3):
        monkeypatch.setattr("tornado_members.auth.signing.time.time", lambda n=n: started + 100 * n)
        rotate(installation.jwks, 60, spread_seconds=0)
    assert len(json.loads(installation.jwks.read_text())["keys"]) == 2


def test_interrupted_rotation_leaves_a_key_that_verifies_the_signatures(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, writes = signing._write, 0

    def cut_off(*arguments: object, **options: object) -> None:
        nonlocal writes
        if writes == 0:
            raise KeyboardInterrupt
        writes -= 1
        write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(signing, "_write", cut_off)
    for writes_left in range(3):
        writes = writes_left
        before = installation.command.token("--rights", "1")
        with pytest.raises(KeyboardInterrupt):
            rotate(installation.jwks, 60, spread_seconds=0)
        installation.read_the_file_again()
        assert installation.accepts(before)
        assert installation.accepts(installation.command.token("--rights", "1"))


def test_rotate_without_an_own_key_set_is_an_error(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(KeysUnusable, match="file"):
        rotate(folder / "file" / "jwks.json", 60, spread_seconds=0)
    issuers = [{"issuer": "somebody", "audience": "members", "jwks": {"keys": []}}]
    finished = Command(folder, {"auth": {"issuers": issuers}}).run("keys", "rotate")
    assert finished.returncode == 2
    assert "auth.own_issuer" in finished.stderr
