"""The image of deploy/docker, built by Buildah and run by Podman, without a registry or a daemon.

The base image is a Debian of the test under the name of the real one, so that the Dockerfile is
used as it is. The containers have the network and the control groups of this machine.
"""

import os
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.service import ROOT

DOCKERFILE: Final = ROOT / "deploy" / "docker" / "Dockerfile"
IMAGE: Final = "tornado_members"
_BUILD_SECONDS: Final = 600
# What pip needs to reach the index of packages that this machine uses.
_SHARED: Final = ("/etc/ssl/certs", "/etc/pip.conf")
# crun refuses a machine that has both versions of control groups.
_HIDE_UNIFIED: Final = 'umount -q /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'


class Images:
    """The images and containers in a folder."""

    def __init__(self, folder: Path) -> None:
        self._storage = [
            *("--root", str(folder / "storage"), "--runroot", str(folder / "run")),
            *("--storage-driver", "vfs"),
        ]

    def buildah(self, *arguments: str) -> str:
        """Run Buildah; return its output."""
        return _output(["buildah", *self._storage, *arguments])

    def podman_command(self, *arguments: str) -> list[str]:
        """Return a command of Podman."""
        podman = ["podman", "--cgroup-manager", "cgroupfs", *self._storage, *arguments]
        return ["unshare", "--mount", "sh", "-c", _HIDE_UNIFIED, "sh", *podman]

    def podman(self, *arguments: str) -> str:
        """Run Podman; return its output."""
        return _output(self.podman_command(*arguments))

    def build(self, root: Path) -> None:
        """Build the image on a base image that has the files of `root`."""
        (version,) = re.findall(r"^ARG PYTHON=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
        base = self.buildah("from", "scratch")
        self.buildah("copy", "--quiet", base, f"{root}/", "/")
        self.buildah("commit", "--quiet", base, f"docker.io/library/python:{version}")
        self.buildah("rm", base)
        shared = [f"--volume={path}:{path}:ro" for path in _SHARED if Path(path).exists()]
        self.buildah(
            *("build", "--isolation=chroot", "--network=host", "--pull-never", "--format=docker"),
            *(*shared, f"--file={DOCKERFILE}", f"--tag={IMAGE}", str(ROOT)),
        )

    def run_options(self) -> list[str]:
        """Return the options of a container as deploy/docker/compose.yaml confines it."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return [
            *("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges"),
            *("--network=host", "--cgroups=disabled", "--health-interval=disable"),
            *(f"--ulimit=nofile={files}:{files}", "--ulimit=nproc=4000:4000"),
        ]


@contextmanager
def built_image(folder: Path, root: Path) -> Iterator[Images]:
    """Build the image. Skip the test where no container can be started."""
    images = Images(folder)
    images.build(root)
    try:
        images.podman("run", "--rm", *images.run_options(), "--entrypoint=true", IMAGE)
    except AssertionError as error:
        pytest.skip(f"the image was built, but Podman starts no container here: {error}")
    yield images


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()
