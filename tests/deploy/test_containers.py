"""The image, built from its Dockerfile and run as the composition confines it."""

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.support.containers import IMAGE, Images, built_image
from tests.support.debian import require_root
from tests.support.load import Load
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import free_port

pytestmark = pytest.mark.exhaustive

NAME = "tornado_members_test"
USER = 10001


@pytest.fixture(scope="module")
def images(debian: Path) -> Iterator[Images]:
    require_root("buildah", "podman", "crun", "unshare")
    with (
        tempfile.TemporaryDirectory(prefix="tornado-members-images-") as folder,
        built_image(Path(folder), debian) as images,
    ):
        yield images


class Container:
    """A running container of the image."""

    def __init__(self, images: Images, port: int, admin_port: int) -> None:
        self.images = images
        self.port = port
        self._readyz = f"http://127.0.0.1:{admin_port}/readyz"
        self.token = self.execute("tornado-members", "token", "--rights", "3")

    def is_ready(self) -> bool:
        """True if a load balancer may send requests."""
        return answers(self._readyz)

    def execute(self, *command: str) -> str:
        """Run a command in the container; return its output."""
        return self.images.podman("exec", NAME, *command)

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request with full rights; return the status and the parsed body."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)


@contextmanager
def running(images: Images, servers: PrivateServers, data: Path) -> Iterator[Container]:
    """Run the image with the settings that it contains, but for addresses and ports."""
    port, admin_port = free_port(), free_port()
    variables = {
        "MEMBERS_MONGODB__URI": servers.mongodb_uri,
        "MEMBERS_MONGODB__DATABASE": "image",
        "MEMBERS_CACHE__SERVERS": json.dumps(list(servers.cache_servers)),
        "MEMBERS_SERVER__PORT": str(port),
        "MEMBERS_ADMIN__PORT": str(admin_port),
        "MEMBERS_SERVER__PROCESSES": "2",
        "MEMBERS_SERVER__UNREADY_SECONDS": "3",
    }
    command = images.podman_command(
        *("run", f"--name={NAME}", *images.run_options()),
        *(f"--env={name}={value}" for name, value in variables.items()),
        *(f"--volume={data}:/var/lib/tornado_members", IMAGE),
    )
    log = data.parent / "container.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{admin_port}/readyz"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Container(images, port, admin_port)
        assert process.wait(60) == 0, log.read_text()
    finally:
        with suppress(AssertionError):
            images.podman("rm", "--force", "--time=10", NAME)
        process.wait(60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (OSError, urllib.error.HTTPError):
        return False


def test_image_serves_confined_and_stops_by_its_signal_without_a_lost_request(
    images: Images, servers: PrivateServers, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    admin.drop_database("image")
    with tempfile.TemporaryDirectory(prefix="tornado-members-image-") as folder:
        (data := Path(folder) / "data").mkdir(mode=0o700)
        os.chown(data, USER, USER)
        with running(images, servers, data) as container:
            status, member = container("POST", "/members", {"name": "Ada"})
            assert status == 201
            assert container("GET", f"/members/{member['memberId']}") == (200, member)
            images.podman("healthcheck", "run", NAME)  # the image's own HEALTHCHECK
            processes = container.execute(
                "python",
                "-c",
                "import glob, os; print(*sorted({os.stat(p).st_uid"
                " for p in glob.glob('/proc/[0-9]*')}))",
            )
            assert processes == str(USER)
            with pytest.raises(AssertionError, match="Read-only file system"):
                container.execute("python", "-c", "open('/etc/tornado_members/new', 'w')")
            status_file = container.execute("cat", "/proc/1/status")
            assert "CapEff:\t0000000000000000" in status_file
            assert "NoNewPrivs:\t1" in status_file
            with Load(container.port, container.token) as load:
                time.sleep(1)
                command = images.podman_command("stop", "--time=50", NAME)
                with subprocess.Popen(command, stdout=subprocess.DEVNULL) as stopping:
                    while container.is_ready():
                        time.sleep(0.05)
                    load.end()  # like a load balancer, which sends no more requests now
                assert stopping.returncode == 0
            assert not load.failures
            assert load.answers > 20
        assert sorted(path.name for path in data.iterdir()) == ["keys"]
