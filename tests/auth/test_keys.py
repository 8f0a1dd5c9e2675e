"""Key sets, and where they come from."""

import json
import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.tokens import make_token, private_key, public_jwk
from tornado_members.auth.keys import FileKeys, KeysUnusable, parse_key_set, read_key_set


def test_a_key_is_found_by_its_name_and_type() -> None:
    keys = parse_key_set([public_jwk("RS256"), public_jwk("ES256")], "test")
    assert keys.find("RS256-first", "RS256")
    assert keys.find("RS256-first", "ES256") is None
    assert keys.find("RS256-second", "RS256") is None
    assert keys.find(None, "RS256") is None
    assert parse_key_set([public_jwk("RS256")], "test").find(None, "RS256")


def test_keys_for_something_else_are_left_out() -> None:
    others = [
        {**public_jwk("RS256"), "use": "enc"},
        {**public_jwk("RS256"), "key_ops": ["sign"]},
        {**public_jwk("RS256"), "key_ops": "noverify"},
        {**public_jwk("RS256"), "exp": "soon"},
        {**public_jwk("RS256"), "exp": 10**400},
        {**public_jwk("RS256"), "exp": float("inf")},
        other_curve_jwk(),
        {**public_jwk("RS256"), "alg": "RS512"},
        {**public_jwk("RS256"), "alg": "ES256"},
        {**public_jwk("RS256"), "alg": "none"},
        {**public_jwk("RS256"), "kid": 5},
        {**public_jwk("ES256"), "crv": "P-384"},
        {**public_jwk("ES256"), "y": public_jwk("ES256")["x"]},
        {"kty": "RSA"},
        {"kty": "unheard-of", "kid": "x"},
        {},
        weak_jwk(),
    ]
    keys = parse_key_set([*others, public_jwk("EdDSA")], "test")
    assert list(keys.keys) == [("EdDSA-first", "EdDSA")]


def test_one_kid_may_stand_for_keys_of_several_algorithms_but_not_for_two_of_one() -> None:
    same = [{**public_jwk(name), "kid": "k"} for name in ("RS256", "ES256")]
    again = {**public_jwk("RS256", "second"), "kid": "k"}
    keys = parse_key_set([*same, again], "test")
    first = keys.find("k", "RS256")
    assert first is not None
    assert keys.find("k", "ES256") is not None
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(make_token("RS256", "second"), first.jwk, algorithms=["RS256"])


def weak_jwk() -> dict[str, Any]:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    return dict(jwt.get_algorithm_by_name("RS256").to_jwk(weak.public_key(), as_dict=True))


def other_curve_jwk() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    to_jwk = jwt.get_algorithm_by_name("ES256").to_jwk
    return {**to_jwk(key, as_dict=True), "alg": "ES256"}


def private_jwk() -> dict[str, Any]:
    return dict(jwt.get_algorithm_by_name("RS256").to_jwk(private_key("RS256"), as_dict=True))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([], "it is empty"),
        ([{}], "key 0"),
        ([{"kty": "RSA"}], "key 0"),
        ([{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}], "key 0"),
        ([weak_jwk()], "only 1024 bits"),
        ([public_jwk("RS256"), private_jwk()], "key 1 is secret"),
        ([{**public_jwk("RS256"), "p": "AQAB"}], "key 0 is secret"),
        ([{"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"}], "key 0 is secret"),
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


class Clock:
    """A clock that a test can move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(file: Path, *names: str) -> None:
    """Write a key set as a careful program does: whole, in the place of the old one."""
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps({"keys": [public_jwk("RS256", name) for name in names]}))
    draft.replace(file)


def test_a_file_is_read_again_when_it_changes(folder: Path) -> None:
    file, clock = folder / "jwks.json", Clock()
    write(file, "first")
    source = FileKeys(file, clock)
    before = source.keys()
    write(file, "second")
    assert source.keys() is before  # not yet looked
    clock.now += 1.1
    assert source.keys().find("RS256-second", "RS256")
    assert source.keys().find("RS256-first", "RS256") is None


def test_a_file_that_was_only_touched_gives_the_same_keys(folder: Path) -> None:
    file, clock = folder / "jwks.json", Clock()
    write(file, "first")
    source = FileKeys(file, clock)
    before = source.keys()
    os.utime(file, (1, 1))
    clock.now += 1.1
    assert source.keys() is before


@pytest.mark.parametrize("content", [None, "", "{", '{"keys": []}'])
def test_while_a_file_is_broken_the_last_good_keys_serve(
    folder: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = folder / "jwks.json", Clock()
    write(file, "first")
    source = FileKeys(file, clock)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    for _ in range(5):
        clock.now += 1.1
        assert source.keys().find("RS256-first", "RS256")
    assert len(caplog.records) == 1  # told once a change, not once a second
    write(file, "second")
    clock.now += 1.1
    assert source.keys().find("RS256-second", "RS256")
