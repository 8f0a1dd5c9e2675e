"""Serve members over HTTP."""

import sys
from argparse import ArgumentParser, Namespace

from tornado_members.serving.supervisor import run as run_service
from tornado_members.settings_file import load_settings
from tornado_members.telemetry.logs import configure_logging


def add_arguments(parser: ArgumentParser) -> None:
    """There are none: what can be set is in the settings."""


def run(arguments: Namespace) -> int:
    """Serve until told to stop."""
    settings = load_settings(arguments.config)
    configure_logging(settings.log.level, settings.log.format, sys.stdout)
    run_service(settings, arguments.config)
    return 0
