"""The modules of the console: their tests in Node.js, their types, and what the page preloads."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.service import ROOT

HERE = Path(__file__).parent
CONSOLE = ROOT / "tornado_members" / "console"
TOOLS = HERE / "node_modules" / ".bin"
NODE = shutil.which("node")
STATIC_IMPORT = re.compile(r'^(?:import|export)\b[^;(]*?"\./([\w-]+\.js)"', re.MULTILINE)


def run(*command: str | Path) -> None:
    parts = [str(part) for part in command]
    done = subprocess.run(parts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(NODE is None, reason="Node.js is missing")
def test_modules_pass_their_tests_in_node() -> None:
    run(NODE or "", "--test", HERE / "modules")


@pytest.mark.exhaustive
@pytest.mark.skipif(not TOOLS.exists(), reason="scripts/setup --console installs TypeScript")
def test_modules_agree_with_their_types_and_format() -> None:
    run(TOOLS / "tsc", "-p", CONSOLE)
    files = [file for file in CONSOLE.iterdir() if file.suffix in (".js", ".css", ".html")]
    run(TOOLS / "prettier", "--print-width", "110", "--check", *files)


def test_page_preloads_what_its_first_view_imports() -> None:
    page = (CONSOLE / "index.html").read_text()
    found: set[str] = set()
    open_ = {"main.js"}
    while open_:
        name = open_.pop()
        found.add(name)
        open_ |= set(STATIC_IMPORT.findall((CONSOLE / name).read_text())) - found
    preloaded = re.findall(r'rel="modulepreload" href="console/([\w-]+\.js)"', page)
    assert sorted(preloaded) == sorted(found - {"main.js"})
