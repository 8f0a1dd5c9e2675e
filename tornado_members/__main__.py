"""The command: `python -m tornado_members serve`, and what is needed around it."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tornado_members.auth.keys import KeysUnusable
from tornado_members.commands import seed, serve, token
from tornado_members.embedded import EmbeddedError
from tornado_members.errors import Problem
from tornado_members.serving import ServingError
from tornado_members.settings import DEFAULT_FILE, SettingsError


class _Command(Protocol):
    """A module of commands/."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say what it takes."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


_COMMANDS: Mapping[str, _Command] = {"serve": serve, "seed": seed, "token": token}


def main() -> int:
    """Run one command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="tornado_members", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(name, help=summary, description=summary, prog=name)
        command.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            default=DEFAULT_FILE,
            help="the settings (settings.yaml)",
        )
        module.add_arguments(command)
    arguments = parser.parse_args()
    try:
        return _COMMANDS[arguments.command].run(arguments)
    except (SettingsError, ServingError, EmbeddedError, KeysUnusable, Problem) as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
