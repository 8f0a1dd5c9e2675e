"""The systemd units in a booted container, as they are in deploy/systemd."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.support.booted import Booted, booted, install_service
from tests.support.debian import require_root
from tests.support.deployment import DEPLOY
from tests.support.load import Load
from tests.support.waiting import wait_for
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import free_port

pytestmark = pytest.mark.exhaustive

SERVICE, SOCKET = "tornado_members.service", "tornado_members.socket"
PROGRAM = "/opt/tornado_members/bin/tornado-members"


class Bed:
    """The container, in which the service runs, and its ports."""

    def __init__(self, container: Booted, servers: PrivateServers) -> None:
        self.container = container
        self.port, self.admin_port = free_port(), free_port()
        self._install(servers)
        container.run("systemctl", "daemon-reload")
        container.run("systemctl", "enable", "--now", SOCKET, SERVICE)
        self.token = self._token()

    def _install(self, servers: PrivateServers) -> None:
        """Install the files as in docs/operations.md, with addresses and ports of the test."""
        etc, units = self.container.root / "etc", self.container.root / "etc/systemd/system"
        (etc / "sysusers.d").mkdir(exist_ok=True)
        shutil.copy(DEPLOY / "systemd/sysusers.conf", etc / "sysusers.d/tornado_members.conf")
        self.container.run("systemd-sysusers")
        for unit in (SERVICE, SOCKET):
            shutil.copy(DEPLOY / "systemd" / unit, units)
        (ours := etc / "tornado_members").mkdir()
        shutil.copy(DEPLOY / "systemd/settings.yaml", ours)
        (ours / "mongodb-uri").write_text(servers.mongodb_uri)
        (ours / "mongodb-uri").chmod(0o600)
        variables = {
            "MEMBERS_MONGODB__DATABASE": "units",
            "MEMBERS_CACHE__SERVERS": json.dumps(list(servers.cache_servers)),
            "MEMBERS_ADMIN__PORT": str(self.admin_port),
            "MEMBERS_SERVER__PROCESSES": "2",
            "MEMBERS_SERVER__UNREADY_SECONDS": "1",
        }
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        (ours / "environment").write_text("".join(lines))
        (units / f"{SOCKET}.d").mkdir()
        listen = f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{self.port}\n"
        (units / f"{SOCKET}.d/port.conf").write_text(listen)

    def _token(self) -> str:
        config = "--config=/etc/tornado_members/settings.yaml"
        runuser = ("runuser", "-u", "tornado_members", "--")
        return self.container.run(*runuser, PROGRAM, "token", config, "--rights", "3")

    def is_ready(self) -> bool:
        """True if /readyz is 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz"):
                return True
        except (OSError, urllib.error.HTTPError):
            return False

    @property
    def main_pid(self) -> str:
        return self.container.show(SERVICE, "MainPID")


@pytest.fixture(scope="module")
def bed(
    debian: Path, servers: PrivateServers, admin: pymongo.MongoClient[dict[str, Any]]
) -> Iterator[Bed]:
    require_root("systemd-nspawn", "unshare", "nsenter")
    admin.drop_database("units")
    with tempfile.TemporaryDirectory(prefix="tornado-members-units-") as folder:
        root = Path(folder) / "root"
        subprocess.run(["cp", "--archive", str(debian), str(root)], check=True)
        install_service(root)
        with booted(root) as container:
            yield Bed(container, servers)


def test_start_ends_when_the_service_is_ready(bed: Bed) -> None:
    """Type=notify: `systemctl enable --now` has just returned."""
    assert bed.is_ready()
    assert bed.container.show(SERVICE, "ActiveState") == "active"
    bed.container.run("systemctl", "stop", SERVICE, SOCKET)
    assert bed.container.show(SERVICE, "Result") == "success"
    assert bed.container.show(SERVICE, "ExecMainStatus") == "0"
    bed.container.run("systemctl", "start", SERVICE)  # which requires the socket
    assert bed.is_ready()


@pytest.mark.parametrize("action", ["reload", "restart"])
def test_reload_and_restart_under_load_lose_no_request(bed: Bed, action: str) -> None:
    before = bed.main_pid
    with Load(bed.port, bed.token) as load:
        time.sleep(0.5)
        bed.container.run("systemctl", action, SERVICE)
        answers = load.answers
        wait_for(lambda: load.answers > answers + 50)
    assert not load.failures
    assert (bed.main_pid == before) == (action == "reload")
    assert bed.is_ready()


def test_first_request_activates_the_service_through_its_socket(bed: Bed) -> None:
    bed.container.run("systemctl", "stop", SERVICE)
    url = f"http://127.0.0.1:{bed.port}/openapi.json"
    with urllib.request.urlopen(url, timeout=60) as response:
        assert response.status == 200
    wait_for(lambda: bed.container.show(SERVICE, "ActiveState") == "active")


def test_service_that_is_killed_starts_again(bed: Bed) -> None:
    before = bed.main_pid
    bed.container.run("kill", "-KILL", before)
    wait_for(lambda: bed.main_pid not in {before, "0"} and bed.is_ready())


def test_hardening_is_in_force(bed: Bed) -> None:
    main = bed.main_pid
    status = bed.container.run("cat", f"/proc/{main}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in status
    assert "Seccomp:\t2" in status
    uid = bed.container.run("id", "-u", "tornado_members")
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status
    inside = ("nsenter", f"--target={main}", "--mount", "--")
    for path in ("/usr/new", "/etc/tornado_members/new", "/opt/new"):
        assert "Read-only file system" in bed.container.run(*inside, "touch", path, fails=True)
    bed.container.run(*inside, "touch", "/var/lib/tornado_members/new")
    bed.container.run("touch", "/tmp/outside")
    assert "outside" not in bed.container.run(*inside, "ls", "/tmp")
    assert bed.container.run("stat", "--format=%a %U", "/var/lib/tornado_members") == (
        "700 tornado_members"
    )
    limits = bed.container.run("cat", f"/proc/{main}/limits")
    assert any(line.split()[:4] == ["Max", "open", "files", "8192"] for line in limits.split("\n"))
    runuser = ("runuser", "-u", "tornado_members", "--")
    refused = bed.container.run(*runuser, "cat", "/etc/tornado_members/mongodb-uri", fails=True)
    assert "Permission denied" in refused
