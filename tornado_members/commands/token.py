"""Print a token that this service accepts, and nothing else."""

import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from tornado_members.auth.keys import KeysUnusable
from tornado_members.auth.signing import OWN_ALGORITHM, own_signing_key

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DEFAULT_SECONDS = 3600


def add_arguments(parser: ArgumentParser) -> None:
    """What the token should say."""
    grant = parser.add_mutually_exclusive_group(required=True)
    grant.add_argument(
        "--rights",
        type=int,
        choices=range(4),
        help="access_rights: 0 nothing, 1 read, 2 read and write, 3 read, write and delete",
    )
    grant.add_argument("--scope", help='what it allows: "members:read members:write"')
    parser.add_argument("--sub", default="developer", help="whom it speaks for (developer)")
    parser.add_argument(
        "--expires",
        type=_seconds,
        default=_DEFAULT_SECONDS,
        metavar="TIME",
        help="how long it is valid: 90, 15m, 1h, 1d (1h); a negative time has passed",
    )


def run(arguments: Namespace) -> int:
    """Print the token."""
    settings = arguments.source.load()
    auth = settings.auth
    if arguments.expires > auth.max_lifetime_seconds:
        limit = f"{auth.max_lifetime_seconds} seconds (auth.max_lifetime_seconds)"
        print(f"token: --expires: may be at most {limit}", file=sys.stderr)
        return 2
    jwks_file = settings.own_jwks_file()
    own = [issuer for issuer in auth.issuers if issuer.issuer == auth.own_issuer]
    if jwks_file is None or not own:
        raise KeysUnusable("auth.own_issuer is no issuer whose keys are in a file of ours")
    if OWN_ALGORITHM not in own[0].algorithms:
        raise KeysUnusable(f"auth.issuers: {own[0].issuer} takes no {OWN_ALGORITHM}, our signature")
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": own[0].issuer,
        "aud": own[0].audience,
        "sub": arguments.sub,
        "iat": min(now, now + arguments.expires),
        "exp": now + arguments.expires,
    }
    if arguments.scope is None:
        claims["access_rights"] = arguments.rights
    else:
        claims["scope"] = arguments.scope
    print(own_signing_key(jwks_file).sign(claims))
    return 0


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(-?[0-9]{1,9})([smhd]?)", text)
    if not match:
        raise ArgumentTypeError("should be a number of seconds, or such as 15m, 1h, 1d")
    return int(match[1]) * _UNITS[match[2] or "s"]
