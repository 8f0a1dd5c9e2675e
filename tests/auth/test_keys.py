"""Key sets, and the key of the service's own."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.tokens import private_key, public_jwk
from tornado_members.auth.keys import (
    KeysUnusable,
    own_signing_key,
    parse_key_set,
    read_key_set,
)


def test_the_first_run_makes_a_key_that_only_its_owner_can_read(folder: Path) -> None:
    file = folder / "keys" / "jwks.json"
    key = own_signing_key(file)
    assert stat.S_IMODE(file.with_name("signing.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" not in file.read_bytes()
    assert set(json.loads(file.read_bytes())["keys"][0]) == {"kty", "n", "e", "kid", "use", "alg"}
    assert own_signing_key(file) == key
    assert sorted(entry.name for entry in file.parent.iterdir()) == ["jwks.json", "signing.pem"]


def test_what_the_own_key_signs_its_key_set_verifies(folder: Path) -> None:
    file = folder / "jwks.json"
    token = own_signing_key(file).sign({"sub": "ada"})
    kid = jwt.get_unverified_header(token)["kid"]
    key = read_key_set(file).find(kid, "RS256")
    assert key is not None
    assert jwt.decode(token, key, algorithms=["RS256"]) == {"sub": "ada"}


def test_a_making_that_was_cut_off_is_finished(folder: Path) -> None:
    file = folder / "jwks.json"
    key = own_signing_key(file)
    whole = file.read_bytes()
    file.unlink()
    assert own_signing_key(file) == key
    assert file.read_bytes() == whole


def test_many_at_once_agree_on_one_key(folder: Path) -> None:
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


def test_a_key_set_of_somebody_elses_gets_no_key_of_ours(folder: Path) -> None:
    file = folder / "jwks.json"
    file.write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    with pytest.raises(KeysUnusable, match=r"signing\.pem"):
        own_signing_key(file)


def test_a_key_is_found_by_its_name_and_type() -> None:
    keys = parse_key_set([public_jwk("RS256"), public_jwk("ES256")], "test")
    assert keys.find("RS256-first", "RS256")
    assert keys.find("RS256-first", "ES256") is None
    assert keys.find("RS256-second", "RS256") is None
    assert keys.find(None, "RS256") is None
    assert parse_key_set([public_jwk("RS256")], "test").find(None, "RS256")


def test_keys_for_something_else_are_left_out() -> None:
    encryption = {**public_jwk("RS256"), "use": "enc", "kid": "other"}
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}
    keys = parse_key_set([encryption, symmetric, public_jwk("EdDSA")], "test")
    assert list(keys.keys) == ["EdDSA-first"]


def private_jwk() -> dict[str, Any]:
    return dict(jwt.get_algorithm_by_name("RS256").to_jwk(private_key("RS256"), as_dict=True))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([], "no key"),
        ([{}], "no key"),
        ([{"kty": "RSA"}], "key 0"),
        ([{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}], "key 0"),
        ([public_jwk("RS256"), private_jwk()], "key 1 is private"),
    ],
)
def test_a_key_set_that_cannot_be_used(keys: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(KeysUnusable, match=reason):
        parse_key_set(keys, "test")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": [5]}', b"\xff", b"[" * 100_000]
)
def test_a_file_that_holds_no_key_set(folder: Path, content: bytes) -> None:
    file = folder / "jwks.json"
    file.write_bytes(content)
    with pytest.raises(KeysUnusable, match=r"jwks\.json"):
        read_key_set(file)
    with pytest.raises(KeysUnusable, match="No such file"):
        read_key_set(folder / "missing.json")
