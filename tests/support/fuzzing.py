"""schemathesis: requests made up from a service's /openapi.json, and every answer checked."""

import subprocess
import sys
from pathlib import Path

from tests.support.service import ROOT

CONFIG = ROOT / "schemathesis.toml"


def fuzz(
    url: str, token: str, folder: Path, *options: str, seconds: float, show: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run it with all checks; its exit code is 0 if all of them held. It keeps things in `folder`.

    `options` are those of `st run`. After `seconds` something hangs.
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
