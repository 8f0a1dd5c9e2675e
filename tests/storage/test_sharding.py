"""The commands of each request, as a router of a sharded MongoDB would send them."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.storage.conftest import EITHER_DRIVER
from tests.support.api import Api
from tests.support.sharding import Route, RoutedCommands, routes
from tornado_members.settings import Settings

pytestmark = EITHER_DRIVER

PATCH = {"Content-Type": "application/merge-patch+json"}
CSV = {"Content-Type": "text/csv"}
FRESH = {"Cache-Control": "no-cache"}
TARGETED, SCATTERED, REFUSED = Route
Request = Callable[[Api], Awaitable[Any]]

REQUESTS: dict[str, tuple[Request, set[Route]]] = {
    "create": (lambda api: api("PUT", "/members", {"name": "Bob"}), {TARGETED}),
    "read": (lambda api: api("GET", "/members/1", headers=FRESH), {TARGETED}),
    "read by name": (lambda api: api("GET", "/members/by-name/Ada", headers=FRESH), {SCATTERED}),
    "replace": (lambda api: api("PUT", "/members/1", {"name": "Eve"}), {TARGETED}),
    "replace on condition": (
        lambda api: api("PUT", "/members/1", {"name": "Eve"}, headers={"If-Match": '"2"'}),
        {TARGETED},
    ),
    "patch": (
        lambda api: api("PATCH", "/members/1", {"phone": "555-0100"}, headers=PATCH),
        {TARGETED},
    ),
    "delete": (lambda api: api("DELETE", "/members/1"), {TARGETED}),
    "list": (lambda api: api("GET", "/members"), {SCATTERED}),
    "list by e-mail": (lambda api: api("GET", "/members?email=ada@example.org"), {SCATTERED}),
    "list by prefix": (lambda api: api("GET", "/members?name_prefix=A"), {SCATTERED}),
    "import": (
        lambda api: api("POST", "/members/import", raw=b"name\nAda\nZoe\n", headers=CSV),
        {SCATTERED, TARGETED},
    ),
}


@pytest.fixture(params=[False, True], ids=["plain", "recorded"])
def audit(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def settings(settings: Settings, audit: bool) -> Settings:
    return Settings.model_validate({**settings.model_dump(), "audit": {"enabled": audit}})


async def test_only_requests_that_name_no_id_are_sent_to_every_shard(
    api: Api, subtests: pytest.Subtests
) -> None:
    for title, (send, expected) in REQUESTS.items():
        if (await api("GET", "/members/by-name/Ada")).code == 404:
            await api.create("Ada", email="ada@example.org")
        RoutedCommands.seen.clear()
        with subtests.test(title):
            assert (await send(api)).code < 300
            assert {route for _, route, _ in RoutedCommands.seen} == expected


@pytest.mark.parametrize(
    ("command", "body", "route"),
    [
        ("findAndModify", {"query": {"_id": 1, "$expr": True}}, TARGETED),
        ("findAndModify", {"query": {"$and": [{"_id": 1}]}}, REFUSED),
        ("findAndModify", {"query": {"name": "Ada"}}, REFUSED),
        ("update", {"updates": [{"q": {"_id": {"$gt": 1}}}]}, REFUSED),
        ("update", {"updates": [{"q": {"name": "Ada"}, "multi": True}]}, SCATTERED),
        ("delete", {"deletes": [{"q": {"_id": 1}, "limit": 1}]}, TARGETED),
        ("find", {"filter": {"_id": {"$in": [1, 2]}}}, TARGETED),
        ("find", {"filter": {"name": "Ada"}}, SCATTERED),
        ("createIndexes", {"indexes": [{"key": {"name": 1}, "unique": True}]}, REFUSED),
    ],
)
def test_route_of_a_command_is_predicted(command: str, body: dict[str, Any], route: Route) -> None:
    assert [*routes(command, {command: "members", **body})] == [route]
    assert [*routes(command, {command: "users", **body})] == []
