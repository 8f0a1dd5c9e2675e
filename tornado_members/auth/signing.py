"""The key of this service's own, with which it signs tokens."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tornado_members.auth.keys import KeysUnusable

_OWN_ALGORITHM = "RS256"
_OWN_KEY_BITS = 2048


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
