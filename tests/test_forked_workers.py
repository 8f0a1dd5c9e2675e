"""The plugin that runs the tests in forks of one process, in a run of its own."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.service import ROOT

_PROCESSES = 2
_MODULE = """
import os, signal, time
import pytest

@pytest.fixture(scope="module")
def resource():
    with open("opened", "a") as file: file.write("o")
    yield
    with open("closed", "a") as file: file.write("c")

@pytest.fixture
def waits(resource):
    if os.path.exists("wait"):
        open(f"waits-{os.getpid()}", "w").close()
        time.sleep(60)

@pytest.mark.parametrize("number", range(40))
def test_passes(waits, number):
    print("output of", number)
    assert number != 7, "seven fails"

def test_subtests(subtests):
    for case in "ab":
        with subtests.test(case=case):
            assert case != "b", "b fails"

def test_dies():
    if os.path.exists("die"):
        os.kill(os.getpid(), signal.SIGKILL)

def test_waits(waits):
    pass
"""


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    (folder / "test_it.py").write_text(_MODULE)
    plugins = (
        "-p",
        "tests.support.forked_workers",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:tornasync",
        "-q",
    )
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *plugins, f"--processes={_PROCESSES}", *arguments, "."],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _closed(folder: Path) -> bool:
    """True if each resource that was opened was closed."""
    return len((folder / "opened").read_text()) == len((folder / "closed").read_text())


def test_each_test_runs_once_and_failures_are_reported(folder: Path) -> None:
    output, _ = _start(folder).communicate(timeout=60)
    assert "2 failed, 42 passed, 1 subtests passed" in output
    assert "seven fails" in output
    assert "output of 7" in output
    assert "output of 8" not in output
    assert "b fails" in output
    assert _closed(folder)


def test_death_of_a_process_fails_its_test(folder: Path) -> None:
    (folder / "die").touch()
    process = _start(folder, "--processes=1", "-k", "subtests or dies or waits")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_dies - The process of this test died" in output
    assert "1 tests did not run" in output
    assert "b fails" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_interrupted_run_cleans_up(folder: Path, number: signal.Signals) -> None:
    (folder / "wait").touch()
    process = _start(folder)
    # A process that is interrupted while it opens a resource cannot close it.
    while len([*folder.glob("waits-*")]) < _PROCESSES:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)  # until the workers have ended, too
    assert process.returncode != 0
    assert _closed(folder)
