"""Print the private servers that the settings require, one per line, for scripts/setup."""

from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing."""


def run(arguments: Namespace) -> int:
    """Print the names of the programs."""
    settings = arguments.source.load()
    if settings.mongodb.embedded:
        print("mongod")
    if settings.cache.servers == "embedded":
        print("memcached")
    return 0
