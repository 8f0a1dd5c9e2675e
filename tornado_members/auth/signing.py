"""The key with which this service signs tokens."""

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from logging import getLogger
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tornado_members.auth.key_set import KeysUnusable, key_expiry, parse_jwks

log = getLogger(__name__)

OWN_ALGORITHM = "RS256"
_OWN_KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key with which this service signs tokens."""

    kid: str
    public_jwk: Mapping[str, Any] = field(compare=False)  # as in a key set
    private: rsa.RSAPrivateKey = field(repr=False, compare=False)

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """Parse a private key in PEM. Raises ValueError, TypeError."""
        # The operator or this service made the key; checking its primes takes a tenth of a second.
        private = serialization.load_pem_private_key(
            pem, password=None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(private, rsa.RSAPrivateKey):
            raise ValueError("it should be an RSA key")
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        kid = _thumbprint(jwk)
        numbers = {name: jwk[name] for name in ("kty", "n", "e")}
        return cls(kid, {**numbers, "kid": kid, "use": "sig", "alg": OWN_ALGORITHM}, private)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token with these claims (RFC 7515, compact form)."""
        return jwt.encode(
            dict(claims), self.private, algorithm=OWN_ALGORITHM, headers={"kid": self.kid}
        )


@dataclass(frozen=True, slots=True)
class Rotation:
    """The replacement of a key."""

    new: str  # its kid
    old: str
    expires: float  # seconds since the epoch, when the old key stops verifying


def has_signing_key(jwks_file: Path) -> bool:
    """Return True if a private key exists beside this key set."""
    return jwks_file.with_name("signing.pem").exists()


def own_signing_key(jwks_file: Path) -> SigningKey:
    """Return the key beside this key set, `signing.pem`; create both if neither exists.

    The private key is readable by its owner alone. Raises KeysUnusable.
    """
    pem_file = jwks_file.with_name("signing.pem")
    try:
        if not pem_file.exists() and not jwks_file.exists():
            _make_key_pair(pem_file, jwks_file)
        key = SigningKey.parse(pem_file.read_bytes())
    except OSError as error:
        raise KeysUnusable(f"{error.filename}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise KeysUnusable(f"{pem_file}: is not a private key: {error}") from error
    if not jwks_file.exists():  # the process that made the keys was killed in between
        _write(jwks_file, _to_jwks([key.public_jwk]), mode=0o644)
    return key


class OwnKey:
    """The current key beside a key set, which another process may replace."""

    def __init__(self, jwks_file: Path) -> None:
        """Raises KeysUnusable."""
        self._file = jwks_file
        self._last = own_signing_key(jwks_file)

    def current(self) -> SigningKey:
        """Return the key; while it cannot be read, the last one. Takes a millisecond or two."""
        try:
            self._last = own_signing_key(self._file)
        except KeysUnusable as error:
            log.error("%s; signing with the previous key", error)
        return self._last


def rotate(jwks_file: Path, keep_seconds: float, *, spread_seconds: float = 2.5) -> Rotation:
    """Replace the key beside this key set by a new one.

    Old keys verify for another `keep_seconds`, until the last token that they signed has expired;
    with 0 they stop at once. Services read the file again within `spread_seconds`, and only then is
    anything signed with the new key. Raises KeysUnusable.
    """
    pem_file = jwks_file.with_name("signing.pem")
    with _rotation_lock(jwks_file):
        old = own_signing_key(jwks_file)
        pem = _make_pem()
        new = SigningKey.parse(pem)
        documents = parse_jwks(jwks_file.read_bytes(), str(jwks_file))
        kept = [jwk for jwk in documents if key_expiry(jwk) > time.time()]
        # In this order, a crash at any step leaves a key set that verifies what is signed.
        _write(jwks_file, _to_jwks([new.public_jwk, *kept]), mode=0o644, replace=True)
        time.sleep(spread_seconds)
        _write(pem_file, pem, mode=0o600, replace=True)
        now = int(time.time())
        for jwk in filter(_is_ours, kept):
            jwk["exp"] = min(key_expiry(jwk), now + math.ceil(keep_seconds))
        kept = [jwk for jwk in kept if key_expiry(jwk) > now]
        _write(jwks_file, _to_jwks([new.public_jwk, *kept]), mode=0o644, replace=True)
    return Rotation(new=new.kid, old=old.kid, expires=now + keep_seconds)


@contextmanager
def _rotation_lock(jwks_file: Path) -> Iterator[None]:
    """Hold the lock under which a key is rotated."""
    try:
        jwks_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(jwks_file.parent, os.O_RDONLY)
    except OSError as error:
        raise KeysUnusable(f"{error.filename}: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise KeysUnusable(f"{error.filename}: {error.strerror}") from error
    finally:
        os.close(folder)


def _is_ours(jwk: Mapping[str, Any]) -> bool:
    """Return True if this service created the key: its kid is then its thumbprint."""
    return jwk.get("kty") == "RSA" and jwk.get("kid") == _thumbprint(jwk)


def _make_pem() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=_OWN_KEY_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _make_key_pair(pem_file: Path, jwks_file: Path) -> None:
    pem = _make_pem()
    pem_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(pem_file, pem, mode=0o600)
    # Another process may have been faster: the key is the one in the file.
    key = SigningKey.parse(pem_file.read_bytes())
    _write(jwks_file, _to_jwks([key.public_jwk]), mode=0o644)


def _write(file: Path, content: bytes, mode: int, *, replace: bool = False) -> None:
    """Write a file atomically. Without `replace`, an existing file is kept."""
    with NamedTemporaryFile(dir=file.parent) as draft:
        os.fchmod(draft.fileno(), mode)
        draft.write(content)
        draft.flush()
        os.fsync(draft.fileno())
        if replace:
            beside = f"{draft.name}.link"
            os.link(draft.name, beside)
            os.replace(beside, file)
            return
        with suppress(FileExistsError):
            os.link(draft.name, file)


def _thumbprint(jwk: Mapping[str, Any]) -> str:
    members = {name: jwk.get(name) for name in ("e", "kty", "n")}
    canonical = json.dumps(members, separators=(",", ":"), sort_keys=True).encode()
    return jwt.utils.base64url_encode(sha256(canonical).digest()).decode()


def _to_jwks(keys: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"keys": keys}, indent=2).encode() + b"\n"
