"""The manifests: valid by the schemas of Kubernetes, and consistent with their settings."""

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.support.deployment import (
    DEPLOY,
    find_program,
    needs_no_private_servers,
    read_yaml,
    settings_with,
    stopping_seconds,
)
from tornado_members.admin.app import ADMIN_ROUTES
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.settings import Settings

FOLDER = DEPLOY / "kubernetes"
VERSIONS = ("1.31", "1.37")
KUSTOMIZATION = read_yaml("kubernetes/kustomization.yaml")
MANIFESTS = sorted(
    file.name
    for file in FOLDER.iterdir()
    if file.name not in ("kustomization.yaml", "settings.yaml")
)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return settings_with(FOLDER / "settings.yaml")


@pytest.fixture(scope="module")
def deployment() -> Any:
    return read_yaml("kubernetes/deployment.yaml")["spec"]


@pytest.fixture(scope="module")
def pod(deployment: Any) -> Any:
    return deployment["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (only,) = pod["containers"]
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_manifest_matches_the_schema(manifest: str, version: str) -> None:
    document = read_yaml(f"kubernetes/{manifest}")
    assert kubernetes_validate.validate(document, version, strict=True) == version
    assert document["metadata"]["name"] == "members"


def test_kustomization_names_existing_files() -> None:
    assert set(KUSTOMIZATION["resources"]) == set(MANIFESTS) - {"autoscaler.yaml"}
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    assert generated["files"] == ["settings.yaml"]
    # With these, Kustomize would also add its labels to the peers of a NetworkPolicy.
    assert "labels" not in KUSTOMIZATION
    assert "commonLabels" not in KUSTOMIZATION


def test_settings_are_valid_and_start_no_private_servers(settings: Settings) -> None:
    assert needs_no_private_servers(settings)
    # 0 would count the cores of the node, not the share of the pod.
    assert settings.server.processes > 0


def test_probes_request_existing_pages_of_the_admin_port(
    container: Any, settings: Settings
) -> None:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.server.port, "admin": settings.admin.port}
    assert settings.admin.host == settings.server.host == "0.0.0.0"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        http_get = container[probe]["httpGet"]
        assert http_get["port"] == "admin"
        assert http_get["path"] in dict(ADMIN_ROUTES)
    # /livez allows one minute for a start. Index builds take longer, and must not be interrupted.
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_pod_has_the_stop_timeout_it_needs(pod: Any, settings: Settings) -> None:
    assert pod["terminationGracePeriodSeconds"] >= stopping_seconds(settings)
    assert settings.server.unready_seconds > 0


def test_pod_has_no_unnecessary_privileges(pod: Any, container: Any) -> None:
    dockerfile = (DEPLOY / "docker" / "Dockerfile").read_text()
    user = pod["securityContext"]
    assert user["runAsNonRoot"] is True
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}\n" in dockerfile
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_variables_of_services_are_not_read_as_settings(
    pod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMBERS_PROBE_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(Exception, match="MEMBERS_PROBE_SERVICE_HOST"):
        settings_with(FOLDER / "settings.yaml")
    assert pod["enableServiceLinks"] is False


def test_files_that_the_settings_name_are_mounted(
    pod: Any, container: Any, settings: Settings
) -> None:
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounted.values()) == set(volumes)
    assert settings.mongodb.uri_file
    secret = volumes[mounted[str(settings.mongodb.uri_file.parent)]]["secret"]
    content = (FOLDER / "kustomization.yaml").read_text()
    key = settings.mongodb.uri_file.name
    assert f"create secret generic {secret['secretName']} --from-literal={key}=" in content
    own = OwnIssuer.from_settings(settings)
    assert own
    own_keys = own.jwks_file
    assert own_keys
    keys = volumes[mounted[str(own_keys.parent)]]["secret"]["secretName"]
    assert f"create secret generic {keys} --from-file=.data/keys/{own_keys.name} " in content
    assert "WORKDIR /etc/tornado_members\n" in (DEPLOY / "docker" / "Dockerfile").read_text()
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    assert volumes[mounted["/etc/tornado_members"]]["configMap"]["name"] == generated["name"]


def test_all_selectors_match_the_same_pods(deployment: Any) -> None:
    label = {"app.kubernetes.io/name": "members"}
    pods = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == pods == label
    budget = read_yaml("kubernetes/disruption-budget.yaml")["spec"]
    policy = read_yaml("kubernetes/network-policy.yaml")["spec"]
    assert budget["selector"]["matchLabels"] == policy["podSelector"]["matchLabels"] == label
    assert read_yaml("kubernetes/service.yaml")["spec"]["selector"] == label
    for spread in deployment["template"]["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == label


def test_ports_match_the_pod(container: Any, settings: Settings) -> None:
    named = {port["name"] for port in container["ports"]}
    (port,) = read_yaml("kubernetes/service.yaml")["spec"]["ports"]
    assert port["targetPort"] in named
    policy = read_yaml("kubernetes/network-policy.yaml")["spec"]
    let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert let_in == named
    let_out = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    expected = {int(server.rpartition(":")[2]) for server in settings.cache.servers} | {
        27017,
        53,
    }
    assert let_out == expected


def test_prometheus_annotation_names_the_admin_port(deployment: Any, settings: Settings) -> None:
    content = deployment["template"]["metadata"]["annotations"]
    assert content["prometheus.io/port"] == str(settings.admin.port)


def test_kustomization_replaces_the_image_of_the_pod(container: Any) -> None:
    (image,) = KUSTOMIZATION["images"]
    assert image["name"] == container["image"]
    assert Path(image["newName"]).name == container["image"]


@pytest.mark.exhaustive
def test_kubectl_builds_the_manifests() -> None:
    command = [find_program("kubectl"), "kustomize", str(FOLDER)]
    built = subprocess.run(command, capture_output=True, text=True, check=True)
    objects = list(yaml.safe_load_all(built.stdout))
    assert len(objects) == len(KUSTOMIZATION["resources"]) + 1  # and the ConfigMap of the settings
    (generated,) = (manifest for manifest in objects if manifest["kind"] == "ConfigMap")
    (pod,) = (manifest for manifest in objects if manifest["kind"] == "Deployment")
    assert generated["metadata"]["name"] in json.dumps(pod)
    for manifest in objects:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
