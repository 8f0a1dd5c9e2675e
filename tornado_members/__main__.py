"""The command: `python -m tornado_members serve`, and what is needed around it."""

import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Protocol, cast

from tornado_members.errors import OperatorError, Problem
from tornado_members.settings_file import DEFAULT_FILE

_COMMANDS = {
    "serve": "Serve members over HTTP.",
    "seed": "Load members from a CSV file, or make some up.",
    "token": "Print a token that this service accepts, and nothing else.",
    "users": "Add, list, change and remove those who may log in.",
    "keys": "Replace the key with which this service signs tokens.",
    "servers": "Print which private servers the settings want, a line each.",
}


class _Command(Protocol):
    """A module of commands/."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Say what it takes."""

    def run(self, arguments: Namespace) -> int:
        """Do it; returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Only that command's part of the house is imported."""
    argv = sys.argv[1:] if argv is None else argv
    overview = ArgumentParser(
        prog="tornado_members",
        formatter_class=RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:7} {summary}" for name, summary in _COMMANDS.items()),
    )
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
    parser = ArgumentParser(prog=f"scripts/{name}", description=_COMMANDS[name])
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=DEFAULT_FILE,
        help="the settings (settings.yaml)",
    )
    command.add_arguments(parser)
    arguments = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # under nohup, one is ignored
            signal.signal(number, _end)
    return command.run(arguments)


def _end(number: int, _frame: FrameType | None) -> None:
    """Unwind the stack: what was started is stopped on the way."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
