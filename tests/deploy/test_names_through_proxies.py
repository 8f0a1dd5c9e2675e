"""Names in addresses reach the service through proxies, also through those that change paths."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.deploy.test_proxies import Pair, running_pair
from tests.support.proxies import NORMALIZING, PROGRAMS, proxying
from tests.support.proxy_client import ProxyClient
from tornado_members.embedded.private_servers import PrivateServers

pytestmark = pytest.mark.exhaustive

NAMES = [
    *("AC/DC", "../{id}", "..\\{id}", "/", "//", "a//b", "/./", "a/../b", "...", "..;/{id}"),
    *("100%", "%2F", "%2e%2e", "a+b", "a b", "a&name=b", "#?=;", "ü/é", "山/川", "👩‍👩‍👧/x"),
]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tornado-members-names-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def pair(root: Path, servers: PrivateServers) -> Iterator[Pair]:
    with running_pair(root / "pair", servers) as pair:
        yield pair


@pytest.fixture(scope="module", params=[(name, kind) for name in NORMALIZING for kind in (0, 1)])
def client(request: pytest.FixtureRequest, root: Path, pair: Pair) -> Iterator[ProxyClient]:
    """A client behind a proxy, as deploy/proxies configures it, and one that changes paths."""
    name, changes_paths = request.param
    if not PROGRAMS[name].find():
        pytest.skip(f"{name} is not installed (scripts/setup --deploy)")
    (folder := root / f"{name}-{changes_paths}").mkdir()
    changes = NORMALIZING[name] if changes_paths else {}
    token = pair.commands[0].token("--rights", "3")
    with proxying(PROGRAMS[name], folder, pair.services, changes) as proxy:
        yield ProxyClient(proxy, token)


@pytest.fixture
def changes_paths(request: pytest.FixtureRequest) -> bool:
    """True if the proxy of this test decodes paths and resolves `..` in them."""
    return bool(request.node.callspec.params["client"][1])


def test_name_in_the_query_is_that_of_the_member(client: ProxyClient) -> None:
    other = client.make_member(f"Other {client.proxy.url}").rpartition("/")[2]
    for pattern in NAMES:
        name = pattern.replace("{id}", other)
        for form in (quote(name, safe=""), quote_plus(name)):
            address = f"/members/by-name?name={form}"
            status, _, body = client("PUT", address, {"phone": "555-0100"})
            assert status in (200, 201), (name, body)
            assert json.loads(body)["name"] == name
            for _ in range(2):  # the second response comes from the cache
                status, _, body = client("GET", address)
                assert (status, json.loads(body)["name"]) == (200, name)


def test_ambiguous_name_in_a_path_is_refused_or_never_arrives(
    client: ProxyClient, changes_paths: bool
) -> None:
    """A proxy that changes paths requests another member, which no service can detect."""
    member = client.make_member(f"Victim {client.proxy.url}")
    status, _, body = client("GET", f"/members/by-name/..%2F{member.rpartition('/')[2]}")
    if changes_paths:
        assert (status, json.loads(body)["name"]) == (200, f"Victim {client.proxy.url}")
    else:
        assert (status, json.loads(body)["code"]) == (400, "ambiguous-address")
