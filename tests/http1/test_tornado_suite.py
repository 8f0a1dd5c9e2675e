"""Tornado's own tests pass on the service's own server, except for a list of exceptions."""

import re
import subprocess
import sys

import pytest

from tests.support.service import ROOT
from tools.tornado_suite import FURTHER_MODULES, MODULES


def run(modules: list[str]) -> int:
    """Run them in a separate process: they change much global state."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.tornado_suite", *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = re.search(r"^(\d+) tests of Tornado's were run", done.stdout, re.MULTILINE)
    assert found, done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    return int(found[1])


def test_tornados_server_tests_pass() -> None:
    assert run(MODULES) > 50


@pytest.mark.exhaustive
def test_tornados_other_tests_pass() -> None:
    assert run(FURTHER_MODULES) > 500
