"""Runs schemathesis: requests generated from /openapi.json, with every response checked."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.service import ROOT

CONFIG = ROOT / "schemathesis.toml"
# Settings with which the service has all its routes.
EVERYTHING: dict[str, Any] = {
    "audit": {"enabled": True},
    "login": {"enabled": True},
    "console": {"enabled": True, "status": True},
}
# An attribute of each type, and of each rule.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "birthday": {"type": "date", "description": "Day of birth"},
    "level": {"type": "string", "enum": ["bronze", "silver", "gold"], "indexed": True},
    "score": {"type": "integer", "minimum": 0, "maximum": 1000, "indexed": True},
    "ratio": {"type": "number", "minimum": -1.5, "maximum": 1e9},
    "tags": {"type": "string", "list": True, "max_items": 3, "indexed": True},
    "vip": {"type": "boolean", "default": False, "indexed": True},
    "seen": {"type": "datetime", "indexed": True},
    "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$", "example": "AB1"},
    "site": {"type": "string", "format": "uri"},
    "contact": {"type": "string", "format": "email"},
    "mobile": {"type": "string", "format": "phone"},
    "grades": {"type": "integer", "list": True, "default": [1, 2]},
}


def fuzz(
    url: str, token: str, folder: Path, *options: str, seconds: float, show: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with all checks; return its exit code, 0 if all of them passed.

    `options` are those of `st run`. A run that exceeds `seconds` hangs. `folder` holds its files.
    """
    return subprocess.run(
        [
            Path(sys.executable).with_name("st"),
            *("--config-file", CONFIG, "run", f"{url}/openapi.json"),
            *("-H", f"Authorization: Bearer {token}", "--checks", "all"),
            *("--continue-on-failure", "--no-color", *options),
        ],
        check=False,
        cwd=folder,
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
