"""The options that every command takes."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.settings import SettingsSource

PROGRAM = "tornado-members"


def add_settings_options(parser: ArgumentParser, default: Any = None) -> None:
    """Add --config and --data-dir. A parser of a subcommand passes SUPPRESS as the default."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=default,
        help="settings file (settings.yaml in the working directory, if it exists)",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        default=default,
        help="folder of the service's own files, instead of the setting data_dir (.data)",
    )


def settings_source(arguments: Namespace) -> SettingsSource:
    """Return the source of the settings of a command."""
    return SettingsSource(arguments.config, arguments.data_dir)


def member_id_or_none(text: str) -> int | None:
    """Parse the id of a member, or `none`. Raises ArgumentTypeError."""
    if text == "none":
        return None
    if not re.fullmatch("[1-9][0-9]{0,15}", text) or int(text) > MAX_MEMBER_ID:
        raise ArgumentTypeError("should be the id of a member, a whole number from 1, or none")
    return int(text)
