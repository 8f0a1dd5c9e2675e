"""The systemd units: their syntax, hardening, time limits and paths."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.deployment import (
    DEPLOY,
    descriptors,
    needs_no_private_servers,
    seconds,
    settings_with,
    stopping_seconds,
)
from tornado_members.settings import Settings

FOLDER = DEPLOY / "systemd"
UNITS = ("tornado_members.service", "tornado_members.socket")
PROGRAM = "/opt/tornado_members/bin/tornado-members"
WORST_EXPOSURE = 20  # tenths, of `systemd-analyze security`; 100 is a unit without any hardening


def directives(unit: str) -> dict[str, list[str]]:
    """Return the values of a unit by directive, in order."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", (FOLDER / unit).read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def service() -> dict[str, list[str]]:
    return directives("tornado_members.service")


@pytest.fixture
def settings(service: dict[str, list[str]], folder: Path) -> Settings:
    """The settings of a service that the unit starts."""
    variables = dict(line.split("=", 1) for line in service["Environment"])
    (credential,) = service["LoadCredential"]
    (folder / credential.split(":")[0]).write_text("mongodb://u:p@db1,db2,db3/?replicaSet=rs0\n")
    ours = {
        name: value.replace("%d", str(folder))
        for name, value in variables.items()
        if name.startswith("MEMBERS_")
    }
    return settings_with(FOLDER / "settings.yaml", ours)


def analyze(*arguments: str) -> str:
    """Return the output of systemd-analyze, which must succeed. Debian's package is systemd."""
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing; scripts/setup --dev installs it"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(folder: Path) -> list[str]:
    """The units with a program that exists on this machine."""
    placed = []
    for name in UNITS:
        text = (FOLDER / name).read_text()
        text = text.replace(PROGRAM, "/bin/true")
        (folder / name).write_text(text)
        placed.append(str(folder / name))
    return placed


def test_units_pass_systemd_analyze_verify(units: list[str]) -> None:
    assert analyze("verify", "--man=no", "--recursive-errors=no", *units) == ""


def test_service_is_confined_according_to_systemd_analyze(units: list[str]) -> None:
    output = analyze("security", "--offline=true", f"--threshold={WORST_EXPOSURE}", units[0])
    assert "Overall exposure level" in output


def test_settings_are_valid_and_name_servers(settings: Settings) -> None:
    assert needs_no_private_servers(settings)
    assert "db1" in settings.mongodb.connection_uri()
    assert settings.data_dir == Path("/var/lib/tornado_members")


def test_service_has_the_stop_timeout_it_needs(
    service: dict[str, list[str]], settings: Settings
) -> None:
    (text,) = service["TimeoutStopSec"]
    assert seconds(text) >= stopping_seconds(settings)


def test_only_the_supervisor_receives_sigterm(service: dict[str, list[str]]) -> None:
    """A worker that receives SIGTERM itself stops listening at once."""
    assert service["KillMode"] == ["mixed"]


def test_service_may_open_the_files_it_needs(
    service: dict[str, list[str]], settings: Settings
) -> None:
    assert int(service["LimitNOFILE"][0]) >= descriptors(settings)


def test_service_is_reloaded_by_sighup_and_notifies_readiness(
    service: dict[str, list[str]],
) -> None:
    assert service["Type"] == ["notify"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    (command,) = service["ExecStart"]
    assert command == f"{PROGRAM} serve --config /etc/tornado_members/settings.yaml"


def test_service_may_write_to_its_state_directory_only(
    service: dict[str, list[str]], settings: Settings
) -> None:
    assert [f"/var/lib/{name}" for name in service["StateDirectory"]] == [str(settings.data_dir)]
    assert service["ProtectSystem"] == ["strict"]
    assert "ReadWritePaths" not in service


def test_user_and_socket_match_the_service(
    service: dict[str, list[str]], settings: Settings
) -> None:
    declared = re.findall("^u (\\S+) ", (FOLDER / "sysusers.conf").read_text(), re.MULTILINE)
    assert declared == service["User"] == service["Group"]
    assert service["Requires"] == ["tornado_members.socket"]
    socket = directives("tornado_members.socket")
    assert socket["ListenStream"] == [f"{settings.server.host}:{settings.server.port}"]
