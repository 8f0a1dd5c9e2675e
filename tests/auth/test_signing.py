"""The service's own signing key."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.tokens import public_jwk
from tornado_members.auth.key_set import KeysUnusable, read_key_set
from tornado_members.auth.signing import own_signing_key


def test_first_run_creates_a_key_that_only_its_owner_can_read(folder: Path) -> None:
    file = folder / "keys" / "jwks.json"
    key = own_signing_key(file)
    assert stat.S_IMODE(file.with_name("signing.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" not in file.read_bytes()
    assert set(json.loads(file.read_bytes())["keys"][0]) == {"kty", "n", "e", "kid", "use", "alg"}
    assert own_signing_key(file) == key
    assert sorted(entry.name for entry in file.parent.iterdir()) == ["jwks.json", "signing.pem"]


def test_own_key_set_verifies_tokens_of_the_own_key(folder: Path) -> None:
    file = folder / "jwks.json"
    token = own_signing_key(file).sign({"sub": "ada"})
    kid = jwt.get_unverified_header(token)["kid"]
    key = read_key_set(file).find(kid, "RS256")
    assert key is not None
    assert jwt.decode(token, key.material, algorithms=["RS256"]) == {"sub": "ada"}


def test_interrupted_creation_of_a_key_is_completed(folder: Path) -> None:
    file = folder / "jwks.json"
    key = own_signing_key(file)
    whole = file.read_bytes()
    file.unlink()
    assert own_signing_key(file) == key
    assert file.read_bytes() == whole


def test_concurrent_processes_agree_on_one_key(folder: Path) -> None:
    file = folder / "jwks.json"
    keys: list[Any] = []
    threads = [
        threading.Thread(target=lambda: keys.append(own_signing_key(file))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1
    assert read_key_set(file).find(keys[0].kid, "RS256")


def test_key_is_not_created_beside_a_foreign_key_set(folder: Path) -> None:
    file = folder / "jwks.json"
    file.write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    with pytest.raises(KeysUnusable, match=r"signing\.pem"):
        own_signing_key(file)
