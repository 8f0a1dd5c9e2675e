"""Print a token that this service accepts, or explain whether it accepts a given one."""

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from tornado_members.auth.explanation import explain
from tornado_members.auth.key_set import KeysUnusable
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.signing import OWN_ALGORITHM, own_signing_key
from tornado_members.commands.options import member_id_or_none

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DEFAULT_SECONDS = 3600
_MAX_INPUT = 2 * 1024 * 1024  # bytes of a token to be explained


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the claims of the token."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=["explain"],
        help="explain whether the service accepts the token on standard input, offline",
    )
    grant = parser.add_mutually_exclusive_group()
    grant.add_argument(
        "--rights",
        type=int,
        choices=range(4),
        help="access_rights: 0 nothing, 1 read, 2 read and write, 3 read, write and delete",
    )
    grant.add_argument("--scope", help='permissions, such as "members:read members:write"')
    parser.add_argument(
        "--member",
        type=member_id_or_none,
        metavar="ID",
        help="the caller's own member, for scopes ...:own",
    )
    parser.add_argument("--sub", default="developer", help="the subject (developer)")
    parser.add_argument(
        "--expires",
        type=_seconds,
        default=_DEFAULT_SECONDS,
        metavar="TIME",
        help="lifetime: 90, 15m, 1h, 1d (1h); a negative one gives an expired token",
    )


def run(arguments: Namespace) -> int:
    """Print the token, or the explanation. Return 1 if the explained token grants nothing."""
    settings = arguments.source.load()
    if arguments.action == "explain":
        lines = explain(_read_token(), settings)
        print("\n".join(map(str, lines)))
        return 0 if lines[-1].passed else 1
    if arguments.rights is None and arguments.scope is None:
        print("token: one of --rights and --scope is required", file=sys.stderr)
        return 2
    own = OwnIssuer.from_settings(settings)
    if own is None or own.jwks_file is None:
        raise KeysUnusable("auth.own_issuer is not an issuer whose keys are in a file here")
    if arguments.expires > own.max_lifetime:
        limit = f"{own.max_lifetime} seconds (auth.max_lifetime_seconds)"
        print(f"token: --expires: may be at most {limit}", file=sys.stderr)
        return 2
    if not own.accepts_own_signature:
        raise KeysUnusable(f"auth.issuers: {own.name} does not accept {OWN_ALGORITHM}")
    if arguments.scope is None:
        grant = {"access_rights": arguments.rights}
    else:
        grant = {"scope": arguments.scope}
    claims = own.claims(arguments.sub, arguments.expires, member_id=arguments.member, **grant)
    print(own_signing_key(own.jwks_file).sign(claims))
    return 0


def _read_token() -> str:
    """Return the token on standard input, with or without `Authorization: Bearer` before it."""
    text = sys.stdin.buffer.read(_MAX_INPUT).decode("utf-8", "replace").strip()
    return re.sub(r"^(authorization:\s*)?(bearer\s+)?", "", text, flags=re.IGNORECASE)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(-?[0-9]{1,9})([smhd]?)", text)
    if not match:
        raise ArgumentTypeError("should be a number of seconds, or 15m, 1h, 1d")
    return int(match[1]) * _UNITS[match[2] or "s"]
