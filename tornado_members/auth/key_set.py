"""Key sets that verify signatures (RFC 7517)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tornado_members.errors import OperatorError
from tornado_members.model.strict_json import parse_object

log = getLogger(__name__)

_RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
# The algorithms that a key fits, by its type and curve (RFC 7518 §3, RFC 8037 §3.1).
_FITTING: Final[Mapping[tuple[str, str | None], frozenset[str]]] = {
    ("RSA", None): _RSA_ALGORITHMS,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("OKP", "Ed448"): frozenset({"EdDSA"}),
}
_ENCRYPTION_PREFIXES: Final = ("RSA-OAEP", "RSA1_5", "ECDH-ES")  # RFC 7518 §4.1
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})  # §6
_LATEST_DATE: Final = 253402300799  # seconds since the epoch: the end of the year 9999
_MIN_RSA_BITS: Final = 2048  # RFC 8725 §3.5, RFC 7518 §3.3
_MAX_LISTED: Final = 3  # keys that are left out, in one line


class KeysUnusable(OperatorError):
    """A key set or a signing key cannot be used. The message states which, and why."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that verifies signatures: its material, the algorithms it fits, and its JWK."""

    material: Any = field(repr=False)  # a public key of `cryptography`, or the bytes of a secret
    algorithms: frozenset[str]
    document: Mapping[str, Any]
    expires: float = math.inf  # seconds since the epoch

    @property
    def kid(self) -> str | None:
        """Its name (RFC 7517 §4.5)."""
        return self.document.get("kid")


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a key set, what it was parsed from, and why other keys were left out."""

    keys: tuple[Key, ...]
    documents: tuple[Mapping[str, Any], ...]
    left_out: tuple[str, ...] = ()

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key for a token's header; None if no key fits, or several do.

        The key is found by `kid`. For a token without `kid`, it is the only key that fits the
        algorithm. For a `kid` that no key has, it is the only fitting key without a `kid`.
        """
        fitting = [key for key in self.keys if algorithm in key.algorithms]
        if kid is not None and any(key.kid == kid for key in self.keys):
            found = [key for key in fitting if key.kid == kid]
        elif kid is not None:
            found = [key for key in fitting if key.kid is None]
        else:
            found = fitting
        return found[0] if len(found) == 1 else None

    def public(self, now: float) -> list[Mapping[str, Any]]:
        """Return the JWKs of the keys that verify now (seconds since the epoch)."""
        return [key.document for key in self.keys if now < key.expires]

    def log_left_out(self, source: str) -> None:
        """Log each key that was left out; called once for each new version of a key set."""
        for reason in self.left_out:
            log.warning("%s: left out %s", source, reason)

    def summarize_left_out(self) -> str | None:
        """Return why keys were left out, in one line of bounded length; None if none was."""
        if not self.left_out:
            return None
        listed = "; ".join(self.left_out[:_MAX_LISTED])
        more = len(self.left_out) - _MAX_LISTED
        return f"left out {listed}" + (f"; and {more} more" if more > 0 else "")


class _NotForSignatures(ValueError):
    """The key declares another purpose, such as encryption, and is left out silently."""


def parse_key_set(documents: Iterable[Mapping[str, Any]], source: str) -> KeySet:
    """Parse the JWKs of a key set (RFC 7517 §5); those that cannot be used are left out.

    Encryption keys are left out silently. Keys of a foreign kind, weak ones and secret ones are
    left out with a reason, and the others are used. Raises KeysUnusable if no key is left.
    """
    documents = tuple(documents)
    keys: list[Key] = []
    left_out: list[str] = []
    other_purpose: list[str] = []
    for position, document in enumerate(documents):
        if document in documents[:position]:  # some providers list a key twice
            continue
        try:
            key = _parse_key(document)
            _check_distinct(key, keys)
        except _NotForSignatures as error:
            other_purpose.append(f"key {position}: {error}")
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
            left_out.append(f"key {position}: {error}")
        else:
            keys.append(key)
    if not keys:
        reasons = "; ".join([*left_out, *other_purpose]) or "it is empty"
        raise KeysUnusable(f"{source}: has no key that can verify signatures ({reasons})")
    return KeySet(tuple(keys), documents, tuple(left_out))


def _check_distinct(key: Key, others: Sequence[Key]) -> None:
    """Raise ValueError if another key has the same name and fits the same algorithm."""
    named = [other for other in others if key.kid is not None and other.kid == key.kid]
    if any(key.algorithms & other.algorithms for other in named):
        raise ValueError("another key has its kid and algorithm")


def _parse_key(document: Mapping[str, Any]) -> Key:
    """Parse one JWK. Raises ValueError, or what PyJWT raises, if it cannot verify signatures."""
    if _PRIVATE_MEMBERS & document.keys():
        raise ValueError("it is secret; a key set holds public keys")
    _check_purpose(document)
    if not isinstance(document.get("kid"), str | None):
        raise ValueError("its kid is not a string")
    kind, curve = document.get("kty"), document.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        raise ValueError("it has no key type (kty)")
    fitting = _FITTING.get((kind, None if kind == "RSA" else curve))
    if fitting is None:
        raise ValueError(f"keys of type {' '.join(filter(None, (kind, curve)))[:40]} are not used")
    if "alg" in document:
        fitting = frozenset({document["alg"]}) & fitting
        if not fitting:
            raise ValueError("its algorithm (alg) does not fit its type")
    material = jwt.PyJWK(dict(document), min(fitting)).key
    if isinstance(material, RSAPublicKey) and material.key_size < _MIN_RSA_BITS:
        raise ValueError(f"it has only {material.key_size} bits")
    return Key(material, fitting, document, key_expiry(document))


def _check_purpose(document: Mapping[str, Any]) -> None:
    """Raise _NotForSignatures for a key of another purpose (RFC 7517 §4.2, §4.3)."""
    if document.get("use", "sig") != "sig":
        raise _NotForSignatures("it is not for signatures (use)")
    operations = document.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _NotForSignatures("it is not for verifying (key_ops)")
    if str(document.get("alg", "")).startswith(_ENCRYPTION_PREFIXES):
        raise _NotForSignatures("it is for encryption (alg)")


def key_expiry(document: Mapping[str, Any]) -> float:
    """Return when a key expires, in seconds since the epoch (OpenID Federation 1.0 §8.7.2, `exp`).

    Raises ValueError.
    """
    if "exp" not in document:
        return math.inf
    expiry = document["exp"]
    if type(expiry) not in (int, float) or not 0 <= expiry <= _LATEST_DATE:
        raise ValueError("its exp is not a date")
    return float(expiry)


def secret_key_set(secret: str) -> KeySet:
    """Return the one key of an issuer that shares a secret (HS256). It has no kid."""
    return KeySet((Key(secret.encode(), frozenset({"HS256"}), {}),), ())


def read_key_set(file: Path) -> KeySet:
    """Read the keys of a JWKS file. Raises KeysUnusable."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise KeysUnusable(f"{file}: {error.strerror}") from error
    return parse_key_set(parse_jwks(text, str(file)), str(file))


def parse_jwks(text: bytes, source: str) -> list[dict[str, Any]]:
    """Return the JWKs of a JWKS document (RFC 7517 §5). Raises KeysUnusable."""
    try:
        documents = parse_object(text)["keys"]
        if not isinstance(documents, list) or not all(isinstance(d, dict) for d in documents):
            raise ValueError("'keys' is not a list of objects")
    except KeyError:
        raise KeysUnusable(f"{source}: has no member 'keys'") from None
    except ValueError as error:
        raise KeysUnusable(f"{source}: {error}") from None
    return documents
