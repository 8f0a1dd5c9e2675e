"""Serve members over HTTP."""

import sys
from argparse import ArgumentParser, Namespace

from tornado_members.serving.supervisor import run as run_service
from tornado_members.telemetry.logs import configure_logging


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options for actions at the start; the settings contain everything else."""
    parser.add_argument(
        "--drop-unused-indexes",
        action="store_true",
        help="drop the indexes of attributes that the settings do not declare as indexed",
    )


def run(arguments: Namespace) -> int:
    """Serve until a signal stops the service."""
    settings = arguments.source.load()
    configure_logging(settings.log.level, settings.log.format, sys.stdout)
    run_service(settings, arguments.source, drop_indexes=arguments.drop_unused_indexes)
    return 0
