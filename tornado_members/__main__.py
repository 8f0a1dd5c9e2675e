"""The command line: `tornado-members COMMAND`, or `python -m tornado_members COMMAND`."""

import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Protocol, cast

from tornado_members import __version__
from tornado_members.commands.options import PROGRAM, add_settings_options, settings_source
from tornado_members.errors import OperatorError, Problem

_COMMANDS = {
    "serve": "Serve members over HTTP.",
    "seed": "Load members from a CSV file, or generate fake ones.",
    "token": "Print a token that this service accepts.",
    "users": "Add, list, change and remove the users of POST /login.",
    "keys": "Replace the key with which this service signs tokens.",
    "watch": "Print the changes of members as they happen.",
    "servers": "Print the private servers that the settings require, one per line.",
}


class _Command(Protocol):
    """A module of commands/."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's own arguments."""

    def run(self, arguments: Namespace) -> int:
        """Run the command with `arguments.source`, its SettingsSource. Returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Only the modules of that command are imported."""
    argv = sys.argv[1:] if argv is None else argv
    overview = ArgumentParser(
        prog=PROGRAM,
        formatter_class=RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:8}{summary}" for name, summary in _COMMANDS.items()),
    )
    overview.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    overview.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="one of these:")
    name = overview.parse_args(argv[:1]).command
    try:
        return _run(name, argv[1:])
    except (OperatorError, Problem) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(name: str, argv: Sequence[str]) -> int:
    command = cast(_Command, import_module(f"tornado_members.commands.{name}"))
    parser = ArgumentParser(prog=f"{PROGRAM} {name}", description=_COMMANDS[name])
    add_settings_options(parser)
    command.add_arguments(parser)
    arguments = parser.parse_args(argv)
    arguments.source = settings_source(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _exit)
    return command.run(arguments)


def _exit(number: int, _frame: FrameType | None) -> None:
    """Unwind the stack, which stops what the command started."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
