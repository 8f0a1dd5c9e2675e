"""Keys that tokens are checked with, from the settings or from a file."""

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tornado_members.errors import OperatorError
from tornado_members.model.strict_json import parse_object

log = getLogger(__name__)

_KEY_TYPES = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
_CURVES = {"ES256": ("P-256",), "EdDSA": ("Ed25519", "Ed448")}  # RFC 7518 §3.4, RFC 8037 §3.1
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # RFC 7518 §6
_LATEST_DATE = 253402300799  # seconds since the epoch: the end of the year 9999
_LEAST_RSA_BITS = 2048  # RFC 8725 §3.5, RFC 7518 §3.3
_LOOK_SECONDS = 1.0


class KeysUnusable(OperatorError):
    """A key set or a signing key cannot be used. The text says which, and why."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that verifies signatures, what it was made from, and when its time is over."""

    jwk: jwt.PyJWK
    document: Mapping[str, Any]
    expires: float = math.inf  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys by their `kid` (RFC 7517 §4.5) and algorithm, and what they were made from."""

    keys: Mapping[tuple[str | None, str], Key]
    documents: tuple[Mapping[str, Any], ...]

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """The key for a token's header, if it is one for this algorithm.

        A token without `kid` finds its key only where there is no choice. A shared secret has no
        name, and whatever a token calls it, there is only the one.
        """
        if algorithm == "HS256":
            return self.keys.get((None, algorithm))
        if kid is None and len(self.keys) == 1:
            ((kid, only),) = self.keys
            return self.keys[kid, only] if only == algorithm else None
        return self.keys.get((kid, algorithm))

    def public(self, now: float) -> list[Mapping[str, Any]]:
        """Those that verify now (seconds since the epoch), as they stand in a JWKS."""
        return [key.document for key in self.keys.values() if now < key.expires]


class KeySource(Protocol):
    """Where an issuer's keys come from. The same object means that nothing has changed."""

    def keys(self) -> KeySet:
        """Return the present keys. Raises DependencyUnavailable if there are none."""

    async def look_again(self) -> None:
        """A token names a key that is not there: perhaps it is new."""

    def state(self) -> "KeyState":
        """How it stands with them."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """For operators: how many keys there are, how old, and whether they could be had lately."""

    count: int
    age: float = 0.0  # seconds since they were last found to be the right ones
    failures: int = 0  # attempts to have them that failed, since the start
    problem: str | None = None  # why they cannot be had now


class FixedKeys:
    """Keys that stand in the settings."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def keys(self) -> KeySet:
        """The keys."""
        return self._keys

    async def look_again(self) -> None:
        """There is nowhere to look."""

    def state(self) -> KeyState:
        """They are what they are."""
        return KeyState(len(self._keys.keys))


class FileKeys:
    """Keys of a JWKS file, read again when it changes; while it is broken, the last good ones."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises KeysUnusable. `clock` tells seconds."""
        self._file = file
        self._clock = clock
        self._looked = clock()
        self._read_at = self._looked  # when it last was as it should be
        self._failures = 0
        self._problem: str | None = None
        self._stamp = self._read_stamp()
        self._keys = read_key_set(file)

    def keys(self) -> KeySet:
        """The keys as the file has them, looked at once a second at most."""
        now = self._clock()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._keys

    async def look_again(self) -> None:
        """It is looked at often enough."""

    def state(self) -> KeyState:
        """A file that is broken has a problem until it is changed again."""
        found = self.keys()
        return KeyState(len(found.keys), self._age(), self._failures, self._problem)

    def _age(self) -> float:
        return self._clock() - self._read_at if self._problem else 0.0

    def _look(self) -> None:
        stamp = self._read_stamp()
        if stamp == self._stamp:
            if self._problem is None:
                self._read_at = self._looked
            return
        self._stamp = stamp
        try:
            found = read_key_set(self._file)
        except KeysUnusable as error:
            log.error("%s; going on with the keys that were there before", error)
            self._failures += 1
            self._problem = str(error)
            return
        self._problem, self._read_at = None, self._looked
        if found.documents != self._keys.documents:
            log.info("%s has changed; it holds %d keys now", self._file, len(found.keys))
            self._keys = found

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def parse_key_set(documents: Iterable[Mapping[str, Any]], source: str) -> KeySet:
    """Keys of a JWKS (RFC 7517 §5) that can verify signatures; others are left out, as §5 says.

    Raises KeysUnusable where none is left, or where one is private.
    """
    documents = tuple(documents)
    found: dict[tuple[str | None, str], Key] = {}
    left_out = []
    for position, document in enumerate(documents):
        if _PRIVATE & document.keys():
            raise KeysUnusable(f"{source}: key {position} is secret; a key set holds public keys")
        try:
            key = _parse_key(document)
            name = (document.get("kid"), key.jwk.algorithm_name)
            if name in found:
                raise ValueError("another one has its kid and algorithm")
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
            left_out.append(f"key {position}: {error}")
        else:
            found[name] = key
    if not found:
        reasons = "; ".join(left_out) or "it is empty"
        raise KeysUnusable(
            f"{source}: has no key that signatures could be checked with ({reasons})"
        )
    for reason in left_out:
        log.warning("%s: left out %s", source, reason)
    return KeySet(found, documents)


def _parse_key(document: Mapping[str, Any]) -> Key:
    """One key. Raises ValueError, and what PyJWT does, for one that cannot verify signatures."""
    if document.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures (use)")
    operations = document.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it is not for verifying (key_ops)")
    if not isinstance(document.get("kid"), str | None):
        raise ValueError("its kid is not a string")
    if document.get("alg", "RS256") not in _KEY_TYPES:
        raise ValueError("its algorithm is not one of ours")
    jwk = jwt.PyJWK(dict(document))
    if _KEY_TYPES.get(jwk.algorithm_name) != jwk.key_type:
        raise ValueError(f"{jwk.algorithm_name} is not an algorithm for it here")
    if document.get("crv") not in _CURVES.get(jwk.algorithm_name, (document.get("crv"),)):
        raise ValueError(f"{jwk.algorithm_name} is not for its curve")
    if isinstance(jwk.key, RSAPublicKey) and jwk.key.key_size < _LEAST_RSA_BITS:
        raise ValueError(f"it has only {jwk.key.key_size} bits")
    return Key(jwk, document, key_expiry(document))


def key_expiry(document: Mapping[str, Any]) -> float:
    """When a key's time is over, in seconds since the epoch (`exp`, OpenID Federation 1.0 §8.7.2).

    Raises ValueError.
    """
    if "exp" not in document:
        return math.inf
    expiry = document["exp"]
    if type(expiry) not in (int, float) or not 0 <= expiry <= _LATEST_DATE:
        raise ValueError("its exp is no date")
    return float(expiry)


def secret_key_set(secret: str) -> KeySet:
    """The one key of an issuer with whom a secret is shared (HS256)."""
    jwk = jwt.PyJWK({"kty": "oct", "k": jwt.utils.base64url_encode(secret.encode()).decode()})
    return KeySet({(None, "HS256"): Key(jwk, {})}, ())


def read_key_set(file: Path) -> KeySet:
    """The keys of a JWKS file. Raises KeysUnusable."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise KeysUnusable(f"{file}: {error.strerror}") from error
    return parse_key_set(parse_jwks(text, str(file)), str(file))


def parse_jwks(text: bytes, source: str) -> list[dict[str, Any]]:
    """What a JWKS document (RFC 7517 §5) has for keys. Raises KeysUnusable."""
    try:
        documents = parse_object(text)["keys"]
        if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
            raise ValueError("has no list of objects called 'keys'")
    except KeyError:
        raise KeysUnusable(f"{source}: has nothing called 'keys'") from None
    except ValueError as error:
        raise KeysUnusable(f"{source}: {error}") from None
    return documents
