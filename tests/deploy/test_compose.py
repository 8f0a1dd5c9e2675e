"""The composition: valid, with valid settings, existing names, and no unnecessary access."""

import json
import re
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
from compose_spec import PyOptions

from tests.support.deployment import (
    DEPLOY,
    descriptors,
    find_program,
    needs_no_private_servers,
    seconds,
    settings_with,
    stopping_seconds,
)
from tornado_members.admin.app import ADMIN_ROUTES
from tornado_members.settings import Settings

FILE = DEPLOY / "docker" / "compose.yaml"


@pytest.fixture(scope="module")
def composition() -> Any:
    """The composition, with merge keys applied."""
    read = PyOptions(apply_merge=True).from_yaml(FILE.read_text())
    read.validate()
    return read.to_dict()


@pytest.fixture(scope="module")
def settings(composition: Any) -> Settings:
    """The settings of its service: the image's, overridden by its variables."""
    variables = composition["services"]["members"]["environment"]
    ours = {name: text for name, text in variables.items() if name.startswith("MEMBERS_")}
    assert ours
    return settings_with(DEPLOY / "docker" / "settings.yaml", ours)


def test_settings_are_valid_and_name_the_servers_of_the_composition(
    composition: Any, settings: Settings
) -> None:
    assert needs_no_private_servers(settings)
    hosts = [server.partition(":")[0] for server in settings.cache.servers]
    hosts.append(urlsplit(settings.mongodb.connection_uri()).hostname or "")
    assert set(hosts) == set(composition["services"]) - {"members"}
    (name,) = re.findall("replicaSet=([a-z0-9]+)", settings.mongodb.connection_uri())
    mongodb = composition["services"]["mongodb"]
    assert f"--replSet {name} " in " ".join(mongodb["command"])
    assert f"_id: '{name}'" in mongodb["healthcheck"]["test"][-1]


def test_containers_have_no_unnecessary_privileges(composition: Any) -> None:
    for name, service in composition["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["healthcheck"]["test"], name
    assert composition["networks"]["back"]["internal"] is True


def test_only_the_api_port_is_published_and_only_on_loopback(
    composition: Any, settings: Settings
) -> None:
    port = settings.server.port
    published = {
        name: service["ports"]
        for name, service in composition["services"].items()
        if "ports" in service
    }
    assert published == {"members": [f"127.0.0.1:{port}:{port}"]}


def test_service_has_the_stop_timeout_and_open_files_it_needs(
    composition: Any, settings: Settings
) -> None:
    members = composition["services"]["members"]
    assert seconds(members["stop_grace_period"]) >= stopping_seconds(settings)
    assert members["ulimits"]["nofile"]["hard"] >= descriptors(settings)
    assert members["healthcheck"]["test"][-1] in dict(ADMIN_ROUTES)
    assert set(members["depends_on"]) == set(composition["services"]) - {"members"}
    for condition in members["depends_on"].values():
        assert condition["condition"] == "service_healthy"


def test_persistent_data_is_on_volumes(composition: Any, settings: Settings) -> None:
    mounted = dict(
        reversed(volume.split(":"))
        for service in composition["services"].values()
        for volume in service.get("volumes", [])
    )
    assert mounted[str(settings.data_dir)] == "members"
    assert mounted["/data/db"] == "mongodb"
    assert set(mounted.values()) == set(composition["volumes"])


@pytest.mark.exhaustive
def test_docker_compose_accepts_the_composition(composition: Any) -> None:
    """As far as it reads it without an engine."""
    command = [find_program("docker-compose"), "--file", str(FILE), "config", "--format", "json"]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    assert read.stderr == ""
    assert set(json.loads(read.stdout)["services"]) == set(composition["services"])
