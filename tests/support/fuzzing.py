"""Runs schemathesis: requests generated from /openapi.json, with every response checked."""

import subprocess
import sys
from pathlib import Path

from tests.support.service import ROOT

CONFIG = ROOT / "schemathesis.toml"


def fuzz(
    url: str, token: str, folder: Path, *options: str, seconds: float, show: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with all checks; return its exit code, 0 if all of them passed.

    `options` are those of `st run`. A run that exceeds `seconds` hangs. `folder` holds its files.
    """
    return subprocess.run(  # noqa: S603
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
