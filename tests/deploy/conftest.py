"""Fixtures of the tests of the image and of the units."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.debian import debian_root


@pytest.fixture(scope="session")
def debian() -> Iterator[Path]:
    """A Debian with Python and systemd, which tests copy."""
    with debian_root() as root:
        yield root
