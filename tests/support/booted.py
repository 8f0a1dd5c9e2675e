"""A booted container: Debian under systemd-nspawn, with the network of this machine."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.support.service import ROOT

# systemd needs control groups of version 2. They are mounted for the container alone.
_ENTER: Final = (
    'umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
)
# What pip needs to reach the index of packages that this machine uses.
_SHARED: Final = ("/etc/ssl/certs", "/etc/pip.conf")
_SOURCES: Final = ("pyproject.toml", "README.md", "LICENSE", "tornado_members")
_BOOT_SECONDS: Final = 60


def _nspawn(root: Path, *arguments: str) -> list[str]:
    """Return a command that runs systemd-nspawn in a mount namespace of its own."""
    shared = [f"--bind-ro={path}" for path in _SHARED if Path(path).exists()]
    nspawn = ["systemd-nspawn", f"--directory={root}", "--register=no", "--keep-unit", *shared]
    return ["unshare", "--mount", "sh", "-c", _ENTER, "sh", *nspawn, *arguments]


def install_service(root: Path) -> None:
    """Install the wheel into /opt/tornado_members, as docs/operations.md describes."""
    (source := root / "source").mkdir()
    for name in (*_SOURCES, *(path.name for path in ROOT.glob("requirements*.txt"))):
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, source / name)
    steps = (
        "python3 -m venv /opt/tornado_members && cd /source &&"
        " /opt/tornado_members/bin/pip wheel --quiet --no-deps --wheel-dir wheels . &&"
        " /opt/tornado_members/bin/pip install --quiet -r requirements-service.txt"
        " && /opt/tornado_members/bin/pip install --quiet --no-deps wheels/*.whl"
    )
    done = subprocess.run(
        _nspawn(root, "--pipe", "sh", "-c", steps),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(source)


class Booted:
    """The booted container."""

    def __init__(self, leader: int, root: Path) -> None:
        self._leader = leader
        self.root = root

    def run(self, *command: str, fails: bool = False) -> str:
        """Run a command in the container; return its output."""
        namespaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup"]
        enter = ["nsenter", f"--target={self._leader}", *namespaces]
        done = subprocess.run(
            [*enter, *command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit)


@contextmanager
def booted(root: Path) -> Iterator[Booted]:
    """Boot the container until the end of the block. Skip the test where that fails."""
    log = root.parent / "boot.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            _nspawn(root, "--boot", "--console=read-only"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Booted(_await_boot(process, log), root)
    finally:
        process.terminate()  # systemd-nspawn shuts the container down
        try:
            process.wait(_BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _remove_groups()


def _remove_groups() -> None:
    """Remove the empty control groups that systemd-nspawn leaves at the top of the hierarchy."""
    groups = [f"/sys/fs/cgroup/{name}" for name in ("payload", "supervisor")]
    find = ["find", *groups, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]
    command = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", *find]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=False)


def _await_boot(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """Return the process id of its systemd when it has booted."""
    deadline = time.monotonic() + _BOOT_SECONDS
    while "multi-user.target" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"systemd-nspawn boots no container: {log.read_text()[-500:]}")
        time.sleep(0.2)
    children = psutil.Process(process.pid).children()
    return next(process.pid for process in children if process.name() == "systemd")
