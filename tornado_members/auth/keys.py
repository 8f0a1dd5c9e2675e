"""Public keys that tokens are checked with, and the key of this service's own."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tornado_members.errors import OperatorError

_OWN_ALGORITHM = "RS256"
_OWN_KEY_BITS = 2048
_ALGORITHM_FAMILIES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}


class KeysUnusable(OperatorError):
    """A key set or a signing key cannot be used. The text says which, and why."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Public keys by their `kid` (RFC 7517 §4.5)."""

    keys: Mapping[str | None, jwt.PyJWK]

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key for a token's header, if its type and its `alg` fit the algorithm.

        A token without `kid` finds its key only where there is no choice.
        """
        only = next(iter(self.keys)) if len(self.keys) == 1 else None
        key = self.keys.get(kid if kid is not None else only)
        if key is None or key.key_type != _ALGORITHM_FAMILIES.get(algorithm):
            return None
        return key if key.algorithm_name == algorithm else None


def parse_key_set(keys: Iterable[Mapping[str, Any]], source: str) -> KeySet:
    """Keys of a JWKS (RFC 7517 §5) that can verify signatures; others are left out, as §5 says.

    Raises KeysUnusable where none is left, or one is broken.
    """
    found: dict[str | None, jwt.PyJWK] = {}
    for position, key in enumerate(keys):
        if key.get("use", "sig") != "sig" or key.get("kty") not in _ALGORITHM_FAMILIES.values():
            continue
        if "d" in key:
            raise KeysUnusable(f"{source}: key {position} is private; a key set holds public keys")
        try:
            found[key.get("kid")] = jwt.PyJWK(dict(key))
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise KeysUnusable(f"{source}: key {position}: {error}") from error
    if not found:
        raise KeysUnusable(f"{source}: has no key that signatures could be checked with")
    return KeySet(found)


def read_key_set(file: Path) -> KeySet:
    """The keys of a JWKS file. Raises KeysUnusable."""
    try:
        document = json.loads(file.read_bytes())
        keys = document["keys"]
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise TypeError("'keys' is not a list of objects")
    except OSError as error:
        raise KeysUnusable(f"{file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeysUnusable(f"{file}: is not a key set: {error}") from error
    return parse_key_set(keys, str(file))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key of this service's own, with which it signs tokens."""

    kid: str
    pem: bytes

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token (RFC 7515 compact) with these claims."""
        return jwt.encode(
            dict(claims), self.pem, algorithm=_OWN_ALGORITHM, headers={"kid": self.kid}
        )


def own_signing_key(jwks_file: Path) -> SigningKey:
    """The key beside this key set, `signing.pem`; both are made where there is neither.

    The private key is readable by its owner alone. Raises KeysUnusable.
    """
    pem_file = jwks_file.with_name("signing.pem")
    try:
        if not pem_file.exists() and not jwks_file.exists():
            _make_key_pair(pem_file, jwks_file)
        pem = pem_file.read_bytes()
        kid = _key_id(pem)
    except OSError as error:
        raise KeysUnusable(f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise KeysUnusable(f"{pem_file}: is not a private key: {error}") from error
    if not jwks_file.exists():  # the making was cut off between the two
        _write(jwks_file, _public_key_set(pem), mode=0o644)
    return SigningKey(kid, pem)


def _make_key_pair(pem_file: Path, jwks_file: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=_OWN_KEY_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(pem_file, pem, mode=0o600)
    # Another process may have been faster: whatever lies there now is the key.
    _write(jwks_file, _public_key_set(pem_file.read_bytes()), mode=0o644)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Write a file that is there whole or not at all; one that is there already is kept."""
    with NamedTemporaryFile(dir=file.parent) as draft:
        os.fchmod(draft.fileno(), mode)
        draft.write(content)
        draft.flush()
        os.fsync(draft.fileno())
        with suppress(FileExistsError):
            os.link(draft.name, file)


def _public_jwk(pem: bytes) -> dict[str, Any]:
    private = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError("it should be an RSA key")
    return dict(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True))


def _key_id(pem: bytes) -> str:
    """The key's thumbprint (RFC 7638): the same key has the same name everywhere."""
    jwk = _public_jwk(pem)
    members = {name: jwk[name] for name in ("e", "kty", "n")}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return jwt.utils.base64url_encode(sha256(canonical).digest()).decode()


def _public_key_set(pem: bytes) -> bytes:
    public = {name: value for name, value in _public_jwk(pem).items() if name != "key_ops"}
    key = {**public, "kid": _key_id(pem), "use": "sig", "alg": _OWN_ALGORITHM}
    return json.dumps({"keys": [key]}, indent=2).encode() + b"\n"
