"""Replace the key with which this service signs tokens."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from tornado_members.auth.key_set import KeysUnusable
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.signing import rotate


def add_arguments(parser: ArgumentParser) -> None:
    """Add the action and its option."""
    parser.add_argument("action", choices=["rotate"], help="create a key and sign with it")
    parser.add_argument(
        "--at-once",
        action="store_true",
        help="end the old keys and their tokens now, for example after a disclosure",
    )


def run(arguments: Namespace) -> int:
    """Rotate the signing key. Raises KeysUnusable."""
    settings = arguments.source.load()
    own = OwnIssuer.from_settings(settings)
    if own is None or own.jwks_file is None:
        raise KeysUnusable("auth.own_issuer is not an issuer whose keys are in a file here")
    rotation = rotate(own.jwks_file, 0 if arguments.at_once else own.max_token_seconds)
    print(f"new signing key: {rotation.new}")
    if arguments.at_once:
        print(f"no longer valid, within a second: {rotation.old}, and older keys")
    else:
        until = datetime.fromtimestamp(rotation.expires, UTC)
        print(f"valid for issued tokens until {until:%Y-%m-%d %H:%M} UTC: {rotation.old}")
    return 0
