"""Print which private servers the settings want, a line each: what scripts/setup must provide."""

from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """There are none."""


def run(arguments: Namespace) -> int:
    """Print them."""
    settings = arguments.source.load()
    if settings.mongodb.embedded:
        print("mongod")
    if settings.cache.servers == "embedded":
        print("memcached")
    return 0
