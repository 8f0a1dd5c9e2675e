"""Key sets and their sources."""

import json
import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.tokens import make_token, private_key, public_jwk
from tornado_members.auth.key_set import KeysUnusable, parse_key_set, read_key_set
from tornado_members.auth.keys import FileKeys, FixedKeys


def nameless(algorithm: str, name: str = "first") -> dict[str, Any]:
    return {k: v for k, v in public_jwk(algorithm, name).items() if k != "kid"}


RSA, RSA2, EC = public_jwk("RS256"), public_jwk("RS256", "second"), public_jwk("ES256")


@pytest.mark.parametrize(
    ("keys", "kid", "algorithm", "found"),
    [
        ([RSA, EC], "RS256-first", "RS256", 0),
        ([RSA, EC], "RS256-first", "ES256", None),  # its kid, with another algorithm
        ([RSA, EC], "RS256-second", "RS256", None),  # every key has a kid, and none has this one
        ([RSA, EC], None, "RS256", 0),  # the only key that fits
        ([RSA, EC], None, "PS256", None),
        ([RSA, EC], "", "RS256", None),  # an empty kid is a kid
        ([RSA, RSA2], None, "RS256", None),  # ambiguous
        ([RSA, RSA2, EC], None, "ES256", 2),
        ([RSA, nameless("RS256", "second")], "unheard-of", "RS256", 1),
        ([RSA, nameless("RS256", "second")], "RS256-first", "RS256", 0),
        ([RSA, nameless("RS256", "second")], None, "RS256", None),
        ([nameless("RS256"), nameless("RS256", "second")], "x", "RS256", None),
        ([{**RSA, "alg": "RS512"}], "RS256-first", "RS512", 0),
        ([{**RSA, "alg": "RS512"}], "RS256-first", "RS256", None),
    ],
)
def test_find_returns_the_key_of_a_kid_or_the_only_key(
    keys: list[dict[str, Any]], kid: str | None, algorithm: str, found: int | None
) -> None:
    key_set = parse_key_set(keys, "test")
    expected = None if found is None else key_set.keys[found]
    assert key_set.find(kid, algorithm) is expected


def test_key_without_alg_fits_every_algorithm_of_its_type() -> None:
    keys = [
        {k: v for k, v in public_jwk(name).items() if k != "alg"}
        for name in ("RS256", "ES256", "ES384", "ES512", "EdDSA")
    ]
    rsa_key, *others = parse_key_set(keys, "test").keys
    assert rsa_key.algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert [set(key.algorithms) for key in others] == [{"ES256"}, {"ES384"}, {"ES512"}, {"EdDSA"}]


AKP = {"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq", "pub": "AAAA"}
X25519 = {"kty": "OKP", "crv": "X25519", "x": "A" * 43, "kid": "x"}
OCT = {"kty": "oct", "k": "c2VjcmV0", "kid": "hmac"}


def test_foreign_keys_are_skipped_with_a_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    foreign = [AKP, X25519, OCT, weak_jwk(), {"kty": ["RSA"]}, {"kty": "EC", "crv": {}}]
    keys = parse_key_set([*foreign, EC], "test")
    assert [key.kid for key in keys.keys] == ["ES256-first"]
    assert len(keys.left_out) == len(foreign)
    for word in ("type AKP", "type OKP X25519", "is secret", "1024 bits"):
        assert word in " ".join(keys.left_out)
    keys.log_left_out("the set")
    assert len(caplog.records) == len(foreign)
    state = FixedKeys(keys).state()
    assert state.count == 1
    assert state.left_out
    assert "and 3 more" in state.left_out


def test_key_listed_twice_is_one_key() -> None:
    keys = parse_key_set([RSA, EC, dict(RSA)], "test")
    assert (len(keys.keys), keys.left_out) == (2, ())
    assert keys.find(None, "RS256") is keys.keys[0]


def test_encryption_keys_are_skipped_silently() -> None:
    encryption = [{**RSA, "use": "enc"}, {**X25519, "alg": "ECDH-ES"}, {**EC, "key_ops": ["wrap"]}]
    keys = parse_key_set([*encryption, RSA2], "test")
    assert len(keys.keys) == 1
    assert keys.left_out == ()


def test_keys_for_other_operations_are_skipped() -> None:
    others = [
        {**public_jwk("RS256"), "use": "enc"},
        {**public_jwk("RS256"), "key_ops": ["sign"]},
        {**public_jwk("RS256"), "key_ops": "noverify"},
        {**public_jwk("RS256"), "exp": "soon"},
        {**public_jwk("RS256"), "exp": 10**400},
        {**public_jwk("RS256"), "exp": float("inf")},
        other_curve_jwk(),
        {**public_jwk("RS256"), "alg": "RS1"},
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
    (key,) = keys.keys
    assert (key.kid, key.algorithms) == ("EdDSA-first", frozenset({"EdDSA"}))


def test_kid_may_name_keys_of_several_algorithms_but_not_two_of_one() -> None:
    same = [{**public_jwk(name), "kid": "k"} for name in ("RS256", "ES256")]
    again = {**public_jwk("RS256", "second"), "kid": "k"}
    keys = parse_key_set([*same, again], "test")
    first = keys.find("k", "RS256")
    assert first is not None
    assert keys.find("k", "ES256") is not None
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(make_token("RS256", "second"), first.material, algorithms=["RS256"])


def weak_jwk() -> dict[str, Any]:
    weak = rsa.generate_private_key(65537, key_size=1024)  # noqa: S505  # to be rejected
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
        ([private_jwk()], "key 0: it is secret"),
        ([{**public_jwk("RS256"), "p": "AQAB"}], "key 0: it is secret"),
        ([{"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"}], "key 0: it is secret"),
    ],
)
def test_unusable_key_set_is_refused(keys: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(KeysUnusable, match=reason):
        parse_key_set(keys, "test")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": [5]}', b"\xff", b"[" * 100_000]
)
def test_file_without_a_key_set_is_refused(folder: Path, content: bytes) -> None:
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
    """Write a key set atomically, as careful programs do."""
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps({"keys": [public_jwk("RS256", name) for name in names]}))
    draft.replace(file)


def test_changed_file_is_read_again(folder: Path) -> None:
    file, clock = folder / "jwks.json", Clock()
    write(file, "first")
    source = FileKeys(file, clock)
    before = source.keys()
    write(file, "second")
    assert source.keys() is before  # not checked yet
    clock.now += 1.1
    assert source.keys().find("RS256-second", "RS256")
    assert source.keys().find("RS256-first", "RS256") is None


def test_touched_file_gives_the_same_keys(folder: Path) -> None:
    file, clock = folder / "jwks.json", Clock()
    write(file, "first")
    source = FileKeys(file, clock)
    before = source.keys()
    os.utime(file, (1, 1))
    clock.now += 1.1
    assert source.keys() is before


@pytest.mark.parametrize("content", [None, "", "{", '{"keys": []}'])
def test_last_good_keys_remain_while_a_file_is_broken(
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
    assert len(caplog.records) == 1  # logged once per change, not once per second
    write(file, "second")
    clock.now += 1.1
    assert source.keys().find("RS256-second", "RS256")
