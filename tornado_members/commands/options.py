"""The options that every command takes."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

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
    """Return where the settings of a command come from."""
    return SettingsSource(arguments.config, arguments.data_dir)
