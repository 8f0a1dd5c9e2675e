"""Add, list, change and remove the users of POST /login."""

import asyncio
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from getpass import getpass

from tornado_members.auth.login import is_username, normalize_username
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.passwords import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, hash_password
from tornado_members.commands.options import add_settings_options, member_id_or_none
from tornado_members.embedded.private_servers import servers_for
from tornado_members.errors import OperatorError
from tornado_members.settings import Settings
from tornado_members.storage.stores import open_stores
from tornado_members.storage.users import UserStore
from tornado_members.telemetry.logs import configure_logging

_RIGHTS = ("blocked", "read", "read and write", "read, write and delete")
_RIGHTS_HELP = "0 none, 1 read, 2 read and write, 3 read, write and delete"
_MEMBER_HELP = "the id of the user's own member, which the user may read and change"


class UserError(OperatorError):
    """A user cannot be added or changed. The message gives the reason."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser(
        "add", help="add a user; prompts for a password, or reads a line of standard input"
    )
    add.add_argument("username")
    add.add_argument("--rights", type=int, choices=range(4), required=True, help=_RIGHTS_HELP)
    add.add_argument("--member", type=member_id_or_none, metavar="ID", help=_MEMBER_HELP)
    actions.add_parser("list", help="list all users, one per line")
    rights = actions.add_parser("set-rights", help="change the rights of a user, within a second")
    rights.add_argument("username")
    rights.add_argument("rights", type=int, choices=range(4), help=_RIGHTS_HELP)
    member = actions.add_parser(
        "set-member", help="bind a user to another member, and end the tokens of the user"
    )
    member.add_argument("username")
    member.add_argument(
        "member", type=member_id_or_none, metavar="ID", help=f"{_MEMBER_HELP}; or none"
    )
    password = actions.add_parser(
        "set-password", help="change a password, and end the tokens of the user"
    )
    password.add_argument("username")
    remove = actions.add_parser("remove", help="remove a user, and end the tokens of the user")
    remove.add_argument("username")
    for action in actions.choices.values():  # the options may also follow the action
        add_settings_options(action, default=SUPPRESS)


def run(arguments: Namespace) -> int:
    """Run an action. Raises UserError."""
    settings = arguments.source.load()
    configure_logging(settings.log.level)
    action = _ACTIONS[arguments.action]
    if "username" in arguments:
        arguments.username = normalize_username(arguments.username)
        if not is_username(arguments.username):
            raise UserError("a username must have 1 to 255 printable characters")
    if arguments.action in ("add", "set-password"):
        arguments.password_hash = _hash(_read_password())

    async def work(mongodb_uri: str) -> None:
        async with open_stores(settings, mongodb_uri) as stores:
            await action(stores.users, arguments, settings)

    with servers_for(settings) as private:
        mongodb_uri, _ = private.addresses_for(settings)
        asyncio.run(work(mongodb_uri))
    return 0


async def _add(users: UserStore, arguments: Namespace, _settings: Settings) -> None:
    name, rights, member_id = arguments.username, arguments.rights, arguments.member
    if not await users.add(name, arguments.password_hash, rights, member_id):
        raise UserError(f"the user {name} already exists")
    print(f"added {name}: {_describe(rights, member_id)}")


async def _list(users: UserStore, _arguments: Namespace, _settings: Settings) -> None:
    found = await users.list_users()
    width = max((len(user.username) for user in found), default=0)
    for user in found:
        described = _describe(user.access_rights, user.member_id)
        print(f"{user.username:{width}}  {user.access_rights}  {described}")


async def _set_rights(users: UserStore, arguments: Namespace, _settings: Settings) -> None:
    _expect(await users.set_rights(arguments.username, arguments.rights), arguments)
    await _print_user(users, arguments.username)


async def _set_member(users: UserStore, arguments: Namespace, _settings: Settings) -> None:
    _expect(await users.set_member(arguments.username, arguments.member), arguments)
    await _print_user(users, arguments.username)


async def _set_password(users: UserStore, arguments: Namespace, _settings: Settings) -> None:
    _expect(await users.set_password(arguments.username, arguments.password_hash), arguments)
    print(f"changed the password of {arguments.username}")


async def _remove(users: UserStore, arguments: Namespace, settings: Settings) -> None:
    own = OwnIssuer.from_settings(settings)
    longest = own.max_token_seconds if own else 0
    _expect(await users.remove(arguments.username, keep=longest), arguments)
    print(f"removed {arguments.username}")


_ACTIONS: dict[str, Callable[[UserStore, Namespace, Settings], Awaitable[None]]] = {
    "add": _add,
    "list": _list,
    "set-rights": _set_rights,
    "set-member": _set_member,
    "set-password": _set_password,
    "remove": _remove,
}


async def _print_user(users: UserStore, username: str) -> None:
    user = await users.find_user(username)
    if user is not None:
        print(f"{username}: {_describe(user.access_rights, user.member_id)}")


def _describe(rights: int, member_id: int | None) -> str:
    """Return what a user may do, such as "read; own member 42"."""
    general = _RIGHTS[rights] if rights in range(4) else ""
    if member_id is None:
        return general
    own = f"own member {member_id}"
    return f"{general}; {own}" if rights else own


def _expect(found: bool, arguments: Namespace) -> None:
    if not found:
        raise UserError(f"the user {arguments.username} does not exist")


def _hash(password: str) -> str:
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise UserError(
            f"a password must have {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters"
        )
    try:
        return hash_password(password)
    except UnicodeEncodeError:
        raise UserError("the password is not valid UTF-8") from None


def _read_password() -> str:
    """Read a password: twice from the terminal, or the first line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    try:
        password, again = getpass("Password: "), getpass("Again: ")
    except EOFError:  # Ctrl-D
        raise UserError("no password was entered; nothing was changed") from None
    if password != again:
        raise UserError("the passwords differ; nothing was changed")
    return password
