"""Clients that generators make of /openapi.json, against a running service.

The generators are installed into the test's folder, and the test is skipped where that fails.
"""

import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import Command
from tornado_members.embedded.private_servers import PrivateServers

CLIENTS = Path(__file__).parent / "clients"
PYTHON_PACKAGES = ("openapi-python-client==0.29.1",)
NODE_PACKAGES = ("openapi-typescript@7.13.0", "typescript@5.9.3")
# Formats of imports and of their results for which the generator has no types.
UNTYPED = (
    "text/csv",
    "application/x-ndjson",
    "text/vcard",
    "text/x-ldif",
    "spreadsheetml",
    "application/gzip",
)
ATTRIBUTES = {
    "level": {"type": "string", "enum": ["bronze", "silver", "gold"], "indexed": True},
    "score": {"type": "integer", "minimum": 0},
    "tags": {"type": "string", "list": True},
    "birthday": {"type": "date"},
    "seen": {"type": "datetime"},
    "ratio": {"type": "number"},
    "vip": {"type": "boolean", "default": False},
}

pytestmark = pytest.mark.exhaustive


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program to its end; return what it prints."""
    finished = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert finished.returncode == 0, f"{command[0]}: {finished.stdout}"
    return finished.stdout


def install(*command: str | Path, cwd: Path) -> None:
    """Run an installer; skip the test if there is no such program, or no registry."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if finished.returncode:
        pytest.skip(f"{' '.join(map(str, command))} failed: {finished.stderr[-500:]}")


@pytest.fixture
def command(folder: Path, servers: PrivateServers, database_name: str) -> Command:
    settings: dict[str, Any] = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "audit": {"enabled": True},
        "console": {"enabled": True, "status": True},
        "members": {"attributes": ATTRIBUTES},
    }
    return Command(folder, settings)


def test_python_client_calls_every_operation(command: Command, folder: Path) -> None:
    venv = folder / "venv"
    install(sys.executable, "-m", "venv", venv, cwd=folder)
    install(venv / "bin" / "pip", "install", "-q", *PYTHON_PACKAGES, cwd=folder)
    with command.serving() as service:
        document = folder / "openapi.json"
        urllib.request.urlretrieve(f"{service.url}/openapi.json", document)
        options = ("--meta", "none", "--path", document)
        output = run(
            venv / "bin" / "openapi-python-client",
            *("generate", *options, "--output-path", folder / "members_client"),
            cwd=folder,
        )
        warnings = [text for text in output.split("WARNING") if "arsing" in text[:10]]
        assert all(any(kind in text for kind in UNTYPED) for text in warnings), output
        script, python = CLIENTS / "use_client.py", venv / "bin" / "python"
        printed = run(
            python, script, folder, service.url, command.token("--rights", "3"), cwd=folder
        )
    assert "operations" in printed


def test_typescript_types_are_strict(command: Command, folder: Path) -> None:
    install("npm", "install", "--no-fund", "--no-audit", *NODE_PACKAGES, cwd=folder)
    with command.serving() as service:
        document = folder / "openapi.json"
        urllib.request.urlretrieve(f"{service.url}/openapi.json", document)
    shutil.copy(CLIENTS / "use_types.ts", folder)
    programs = folder / "node_modules" / ".bin"
    # Otherwise, an attribute with a default would be required in requests.
    options = ("--default-non-nullable=false", "-o", folder / "members.ts")
    run(programs / "openapi-typescript", document, *options, cwd=folder)
    strict = ("--strict", "--noEmit", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess")
    run(programs / "tsc", *strict, "use_types.ts", cwd=folder)
