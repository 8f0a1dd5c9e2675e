"""Creates valid and invalid tokens for tests."""

import asyncio
import time
import uuid
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tornado_members.auth.caller import Caller
from tornado_members.auth.tokens import TokenVerifier

ISSUER = "https://issuer.example"
AUDIENCE = "members-test"

# Seconds. Tokens that are made when tests are collected must outlast a slow run: an expired one
# is refused whatever else is wrong with it.
LIFETIME = 3600

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def private_key(algorithm: str, name: str = "first") -> PrivateKey:
    """Return a key, the same for the same name, since creating one is slow."""
    return _make_key(algorithm, name)


@cache
def _make_key(algorithm: str, _name: str) -> PrivateKey:
    curves: dict[str, ec.EllipticCurve] = {
        "ES256": ec.SECP256R1(),
        "ES384": ec.SECP384R1(),
        "ES512": ec.SECP521R1(),
    }
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(algorithm: str, name: str = "first") -> dict[str, Any]:
    """Return the public half of a key, as a key set holds it."""
    to_jwk = jwt.get_algorithm_by_name(algorithm).to_jwk
    jwk = to_jwk(private_key(algorithm, name).public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, "kid": f"{algorithm}-{name}", "alg": algorithm, "use": "sig"}


def make_token(
    algorithm: str = "RS256",
    key_name: str = "first",
    headers: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    """Return a token that is valid unless a claim prevents it; a claim of None is omitted."""
    now = int(time.time())
    defaults = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "somebody",
        "iat": now,
        "exp": now + LIFETIME,
        "jti": uuid.uuid4().hex,
    }
    header = {"kid": f"{algorithm}-{key_name}", **(headers or {})}
    payload = {name: value for name, value in {**defaults, **claims}.items() if value is not None}
    return jwt.encode(
        payload,
        private_key(algorithm, key_name),
        algorithm=algorithm,
        headers={k: v for k, v in header.items() if v is not None},
    )


def verify(verifier: TokenVerifier, token: str) -> Caller:
    """Verify a token from outside an event loop."""
    return asyncio.run(verifier.verify(token))
