"""Serve members over HTTP."""

import sys
from argparse import ArgumentParser, Namespace

from tornado_members.serving.supervisor import run as run_service
from tornado_members.telemetry.logs import configure_logging


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the settings have everything."""


def run(arguments: Namespace) -> int:
    """Serve until a signal stops the service."""
    settings = arguments.source.load()
    configure_logging(settings.log.level, settings.log.format, sys.stdout)
    run_service(settings, arguments.source)
    return 0
