"""Reading the text of a JSON Web Token (RFC 7519), before anything in it is verified."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from tornado_members.errors import TokenInvalid
from tornado_members.model.strict_json import parse_object

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Extensions that change how a token is parsed. None is supported, so a token with one of them is
# refused. Headers that offer a key or an address (jwk, jku, x5u ...) are never used.
_EXTENSIONS: Final = frozenset({"crit", "b64", "zip", "enc"})


def read_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims, not yet verified.

    Raises TokenInvalid for a token that two parsers could read differently.
    """
    if not _COMPACT.fullmatch(token):
        raise TokenInvalid("is not a JSON Web Token", "malformed")
    header, claims, signature = token.split(".")
    try:
        _decode(signature)
        return parse_object(_decode(header)), parse_object(_decode(claims))
    except ValueError:
        raise TokenInvalid("is not a JSON Web Token", "malformed") from None


def check_header(header: Mapping[str, Any]) -> None:
    """Check what does not depend on the issuer. Raises TokenInvalid."""
    if not isinstance(header.get("alg"), str):
        raise TokenInvalid("names no algorithm", "algorithm")
    if _EXTENSIONS & header.keys():
        raise TokenInvalid("requires an extension that is not supported", "header")
    if not isinstance(header.get("typ", "JWT"), str):
        raise TokenInvalid("is of a type that is not accepted", "header")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise TokenInvalid("is signed with an unknown key", "key")


def _decode(part: str) -> bytes:
    """Decode base64url without padding (RFC 7515 §2); trailing bits must be zero."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise ValueError("another text has the same meaning")
    return data
