"""The fixture that watches the event loop in all tests finds slow callbacks."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import ROOT
from tests.support.slow_callbacks import MOST_SECONDS, SlowCallbacks


def spin() -> None:
    """Use more processor time than a callback may."""
    until = time.thread_time() + MOST_SECONDS + 0.005
    while time.thread_time() < until:
        pass


class OfTheService:
    """Like a class of the product."""

    __module__ = "tornado_members.pretended"

    def callback(self) -> None:
        spin()


def coroutine_of_the_service() -> Callable[[], Any]:
    source = "async def serve():\n    spin()\n"
    namespace: dict[str, Any] = {"spin": spin}
    exec(compile(source, "/x/tornado_members/pretended.py", "exec"), namespace)  # noqa: S102  # a file name of the package
    return namespace["serve"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (lambda loop: loop.call_soon(OfTheService().callback), "OfTheService.callback"),
        (lambda loop: loop.call_later(0, OfTheService().callback), "OfTheService.callback"),
        (lambda loop: loop.create_task(coroutine_of_the_service()()), "serve"),
        (lambda loop: loop.call_soon(spin), None),
    ],
    ids=["callback", "timer", "task", "a callback of a test"],
)
async def test_slow_callbacks_of_the_service_are_found(
    slow_callbacks: SlowCallbacks, start: Callable[[asyncio.AbstractEventLoop], Any], name: str
) -> None:
    started = start(asyncio.get_running_loop())
    await asyncio.sleep(0.01)
    found = [text.split(": ")[1] for text in slow_callbacks.found]
    slow_callbacks.found.clear()
    assert found == ([name] if name else [])
    del started


_MODULE = """
import asyncio
import pytest
from tests.test_slow_callbacks import OfTheService

RUNS = {"always": 0, "once": 0, "fails": 0}

@pytest.mark.parametrize("name", RUNS)
def test_slow(name):
    RUNS[name] += 1
    async def main():
        if name != "once" or RUNS[name] == 1:
            asyncio.get_running_loop().call_soon(OfTheService().callback)
        await asyncio.sleep(0.01)
    asyncio.run(main())
    assert name != "fails"

def test_runs():
    print(RUNS)
    assert RUNS == {"always": 3, "once": 1 + 1, "fails": 1}
"""


def test_slow_callback_fails_a_test_unless_the_next_run_has_none(folder: Path) -> None:
    (folder / "test_it.py").write_text(_MODULE)
    plugins = ("-p", "tests.support.slow_callbacks", "-p", "no:cacheprovider", "-q", "-rA")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "."],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = result.stdout.splitlines()
    outcomes = {line.split(" - ")[0] for line in lines if line.startswith(("ERROR", "FAILED"))}
    assert outcomes == {
        "ERROR test_it.py::test_slow[always]",
        "FAILED test_it.py::test_slow[fails]",
    }
    assert "occupied the event loop: 2" in result.stdout
    assert "PASSED test_it.py::test_runs" in lines
