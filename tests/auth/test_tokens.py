"""From a token to a caller; every way to be no token has a row."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.tokens import AUDIENCE, ISSUER, make_token, private_key, public_jwk
from tornado_members.auth.keys import parse_key_set
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.errors import PermissionMissing, TokenInvalid
from tornado_members.settings import Auth

NOW = int(time.time())
OTHER = "https://other.example"


@pytest.fixture(scope="module")
def verifier() -> TokenVerifier:
    issuers = [
        {"issuer": ISSUER, "audience": AUDIENCE},
        {"issuer": OTHER, "audience": "other", "algorithms": ["ES256"]},
    ]
    key_sets = {
        ISSUER: [public_jwk(name) for name in ("RS256", "ES256", "EdDSA")],
        OTHER: [public_jwk("ES256", "other")],
    }
    parsed = {name: parse_key_set(keys, name) for name, keys in key_sets.items()}
    return TokenVerifier(Auth.model_validate({"issuers": issuers}), parsed)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_good_token_speaks_for_its_subject(verifier: TokenVerifier, algorithm: str) -> None:
    caller = verifier.verify(make_token(algorithm, sub="ada", access_rights=2))
    assert (caller.issuer, caller.subject) == (ISSUER, "ada")
    assert caller.permissions == {"members:read", "members:write"}
    caller.require("members:write")
    with pytest.raises(PermissionMissing):
        caller.require("members:delete")


def test_each_issuer_has_its_own_keys_audience_and_algorithms(verifier: TokenVerifier) -> None:
    claims: dict[str, Any] = {"iss": OTHER, "aud": "other", "scope": "members:read"}
    assert verifier.verify(make_token("ES256", "other", **claims)).issuer == OTHER
    for algorithm, key in (("ES256", "first"), ("RS256", "first")):
        with pytest.raises(TokenInvalid):
            verifier.verify(make_token(algorithm, key, **claims))
    with pytest.raises(TokenInvalid):
        verifier.verify(make_token("ES256", "other", aud="other"))


def unsigned(header: dict[str, Any], **claims: Any) -> str:
    payload = jwt.decode(make_token(**claims), options={"verify_signature": False})
    parts = [json.dumps(part).encode() for part in (header, payload)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def signed_with_the_public_key() -> str:
    """The oldest trick: the public key taken for the secret of an HMAC (RFC 8725 §2.1)."""
    public = private_key("RS256").public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header, payload, _ = make_token(access_rights=3).split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"RS256-first"}').decode().rstrip("=")
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{header}.{payload}".encode(), pem
    )
    return f"{header}.{payload}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def tampered() -> str:
    header, _, signature = make_token(access_rights=1).split(".")
    return ".".join([header, make_token(access_rights=3).split(".")[1], signature])


BAD_TOKENS: dict[str, str] = {
    "empty": "",
    "no dots": "abc",
    "two parts": "a.b",
    "three parts of nothing": "..",
    "not ASCII": "ä.ö.ü",
    "not base64": "!!!.???.***",
    "too long": make_token(padding="x" * 9000),
    "header is a list": "W10.e30.",
    "payload is a list": base64.urlsafe_b64encode(b'{"alg":"RS256"}').decode() + ".W10.AA",
    "alg none": unsigned({"alg": "none"}, access_rights=3),
    "alg None": unsigned({"alg": "None", "kid": "RS256-first"}, access_rights=3),
    "alg is a number": unsigned({"alg": 5}),
    "no alg": unsigned({"kid": "RS256-first"}),
    "no signature": make_token().rpartition(".")[0] + ".",
    "public key as secret": signed_with_the_public_key(),
    "payload changed": tampered(),
    "another key of the same name": make_token("RS256", "stranger", {"kid": "RS256-first"}),
    "an unknown key": make_token("RS256", "stranger"),
    "a key of another type": make_token("RS256", headers={"kid": "ES256-first"}),
    "no kid among several": make_token("RS256", headers={"kid": None}),
    "kid is a list": unsigned({"alg": "RS256", "kid": ["RS256-first"]}),
    "unknown issuer": make_token(iss="https://evil.example"),
    "no issuer": make_token(iss=None),
    "another audience": make_token(aud="somebody-else"),
    "no audience": make_token(aud=None),
    "no subject": make_token(sub=None),
    "no expiry": make_token(exp=None),
    "no issue time": make_token(iat=None),
    "expired": make_token(iat=NOW - 600, exp=NOW - 60),
    "issued in the future": make_token(iat=NOW + 3600, exp=NOW + 4000),
    "not valid yet": make_token(nbf=NOW + 3600),
    "valid for too long": make_token(exp=NOW + 86400 * 30),
    "expiry is a string": make_token(exp=str(NOW + 600)),
    "expiry is true": make_token(exp=True),
    "expiry is infinite": make_token(exp=float("inf")),
    "expiry is enormous": make_token(exp=10**400),
    "issue time is a string": make_token(iat=str(NOW)),
    "issue time is not a number": make_token(iat=float("nan")),
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_what_is_no_good_token_is_refused(verifier: TokenVerifier, what: str) -> None:
    with pytest.raises(TokenInvalid) as refused:
        verifier.verify(BAD_TOKENS[what])
    assert '"' not in refused.value.detail  # it stands in a quoted-string
    assert "example" not in refused.value.detail


def test_the_reason_helps_an_honest_caller(verifier: TokenVerifier) -> None:
    for what, reason in {
        "expired": "has expired",
        "another audience": "audience",
        "unknown issuer": "issuer",
        "no expiry": "exp",
        "valid for too long": "longer",
    }.items():
        with pytest.raises(TokenInvalid, match=reason):
            verifier.verify(BAD_TOKENS[what])


def test_clocks_may_differ_a_little(verifier: TokenVerifier) -> None:
    assert verifier.verify(make_token(iat=NOW - 600, exp=NOW - 10)).subject == "somebody"


def test_an_only_key_needs_no_name() -> None:
    settings = Auth.model_validate({"issuers": [{"issuer": ISSUER, "audience": AUDIENCE}]})
    keys = parse_key_set([public_jwk("RS256")], "test")
    verifier = TokenVerifier(settings, {ISSUER: keys})
    assert verifier.verify(make_token(headers={"kid": None})).subject == "somebody"
