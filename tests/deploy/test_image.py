"""The image: its Dockerfile, its settings and its health check."""

import asyncio
import re
import runpy
import socket
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from tornado.httpserver import HTTPServer

from tests.support.deployment import DEPLOY, needs_no_private_servers, settings_with
from tests.support.service import ROOT
from tornado_members.admin.app import ADMIN_ROUTES, make_admin_app
from tornado_members.admin.status import ProcessStatus
from tornado_members.http.allowed_hosts import AllowedHosts

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
TEXT = DOCKERFILE.read_text()
SETTINGS = DEPLOY / "docker" / "settings.yaml"
HEALTH_CHECK = DEPLOY / "docker" / "healthcheck.py"


def test_dockerfile_passes_the_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [str(hadolint), "--no-color", "--failure-threshold", "style", str(DOCKERFILE)]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def is_in_build_context(path: str) -> bool:
    """True if .dockerignore admits a path to the build; the last matching pattern decides."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!").rstrip("/")
        if not pattern or pattern.startswith("#"):
            continue
        parents = [path, *map(str, Path(path).parents)]
        if any(fnmatch(parent, pattern) for parent in parents):
            ignored = not line.startswith("!")
    return not ignored


def test_build_context_has_the_copied_files_and_no_others() -> None:
    copied = " ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)).split()
    assert len(copied) == 9
    for path in copied:
        assert (ROOT / path).exists(), path
        assert is_in_build_context(path), path
    for private in (
        ".data/keys/signing.pem",
        ".env",
        ".git/config",
        ".venv/bin/python",
        "tests",
        "docs",
    ):
        assert not is_in_build_context(private), private


def test_image_installs_the_wheel_without_the_private_mongodb() -> None:
    installed = re.findall(r"-r (requirements\S+\.txt)", TEXT)
    assert installed == ["requirements-service.txt", "requirements-otel.txt"]
    assert "pip wheel --no-deps" in TEXT
    assert "pip install --no-deps wheels/*.whl" in TEXT
    assert re.findall(r"^ENTRYPOINT (.*)$", TEXT, re.MULTILINE) == ['["tornado-members"]']


def test_commands_find_the_settings_in_the_working_directory() -> None:
    assert re.findall(r"^WORKDIR (.*)$", TEXT, re.MULTILINE)[-1] == "/etc/tornado_members"
    assert "COPY deploy/docker/settings.yaml /etc/tornado_members/settings.yaml" in TEXT


def test_settings_are_valid_and_start_no_private_servers() -> None:
    settings = settings_with(SETTINGS)
    assert needs_no_private_servers(settings)
    assert settings.server.host == settings.admin.host == "0.0.0.0"
    exposed = re.findall(r"^EXPOSE (\d+) (\d+)$", TEXT, re.MULTILINE)
    assert exposed == [(str(settings.server.port), str(settings.admin.port))]
    # The only folder to which the service may write belongs to its user.
    assert f"-o 10001 -g 10001 {settings.data_dir}" in TEXT
    assert re.findall("^USER (.*)$", TEXT, re.MULTILINE) == ["10001:10001"]


def test_image_sets_no_variable_that_overrides_a_mounted_file() -> None:
    assert "MEMBERS_" not in TEXT
    assert "MEMBERS_" not in yaml.safe_dump(yaml.safe_load(SETTINGS.read_text()))


def test_health_check_probes_an_existing_page() -> None:
    (path,) = re.findall(r'healthcheck.py", "(.*)"\]', TEXT)
    assert path in dict(ADMIN_ROUTES)


async def test_health_check_reports_the_state_of_the_service(
    process_status: ProcessStatus,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check = runpy.run_path(str(HEALTH_CHECK))["main"]
    server = HTTPServer(make_admin_app(process_status, AllowedHosts()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("MEMBERS_ADMIN__PORT", str(listener.getsockname()[1]))
        listener.setblocking(False)
        server.add_socket(listener)
        assert await asyncio.to_thread(check, "/livez") == 0
        process_status.health.draining = True
        assert await asyncio.to_thread(check, "/livez") == 0
        assert await asyncio.to_thread(check, "/readyz") == 1
        assert "draining" in capsys.readouterr().out
        server.stop()
        await server.close_all_connections()
    assert await asyncio.to_thread(check, "/livez") == 1
    assert "does not respond" in capsys.readouterr().out
