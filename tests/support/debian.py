"""A root file system of Debian with Python, for images and booted containers."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_SUITE: Final = "bookworm"
_PACKAGES: Final = "python3,python3-venv,ca-certificates,systemd,systemd-sysv,dbus,procps"
_SECONDS: Final = 600


def require_root(*programs: str) -> None:
    """Skip the test without root and these programs."""
    if os.geteuid() != 0:
        pytest.skip("it needs root, for a root file system of its own")
    for program in programs:
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"{program} is not installed (scripts/setup --deploy)")


@contextmanager
def debian_root() -> Iterator[Path]:
    """Install Debian into a folder; remove it at the end. Skip the test where that fails."""
    require_root("debootstrap")
    folder = Path(tempfile.mkdtemp(prefix="tornado-members-debian-"))
    try:
        root = folder / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)]
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if done.returncode:
            pytest.skip(f"debootstrap failed: {done.stdout[-300:]}{done.stderr[-300:]}")
        # The name by which the images of Python call it.
        (root / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3")
        yield root
    finally:
        shutil.rmtree(folder)
