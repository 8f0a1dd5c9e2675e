"""Entity tags that a compressing reverse proxy has changed (server.proxied_etags)."""

from typing import Any

import pymongo
import pytest
from tornado.httputil import HTTPServerConnectionDelegate

from tests.support.api import Api, problem
from tornado_members.app import make_app
from tornado_members.http.proxied_etags import original_tags
from tornado_members.services import Services
from tornado_members.settings import Settings

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]
ADA = {"name": "Ada", "phone": "555-0100"}


@pytest.mark.parametrize(
    ("sent", "original"),
    [
        ('W/"4"', '"4"'),
        ('"4-gzip"', '"4"'),
        ('"4;br"', '"4"'),
        ('"4/zstd"', '"4"'),
        ('W/"4", "7-gzip" ,"x"', '"4", "7" ,"x"'),
        ('"4"', '"4"'),
        ("*", "*"),
        ('W/"x"', 'W/"x"'),
        ('W/"04"', 'W/"04"'),
        ('"4-gzipped"', '"4-gzipped"'),
        ('"4-gzip', '"4-gzip'),
    ],
)
def test_original_tags_are_restored(sent: str, original: str) -> None:
    assert original_tags(sent) == original


async def test_weak_tag_fails_with_a_detail_that_names_the_setting(api: Api) -> None:
    created = await api("POST", "/members", ADA)
    for method in ("GET", "PUT", "DELETE"):
        body = ADA if method == "PUT" else None
        headers = {"If-Match": f"W/{created.headers['ETag']}"}
        answer = await api(method, created.headers["Location"], body, headers=headers)
        refused = problem(answer, 412, "precondition-failed")
        assert "server.proxied_etags" in refused["detail"]


class TestProxied:
    """With the setting."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        server = settings.server.model_copy(update={"proxied_etags": True})
        return settings.model_copy(update={"server": server})

    async def test_tags_of_proxies_are_accepted(self, api: Api) -> None:
        created = await api("POST", "/members", ADA)
        path = created.headers["Location"]
        assert created.headers["ETag"] == '"1"'
        for known in ('W/"1"', '"1-gzip"'):
            answers = [
                await api("GET", path, headers={"If-None-Match": known, **more})
                for more in ({}, {}, {"If-Match": known})  # from MongoDB, Memcached, the handler
            ]
            assert [answer.code for answer in answers] == [304, 304, 304]
        changed = await api("PUT", path, {**ADA, "phone": None}, headers={"If-Match": '"1-gzip"'})
        assert (changed.code, changed.headers["ETag"]) == (200, '"2"')
        stale = await api("PUT", path, ADA, headers={"If-Match": 'W/"1"'})
        problem(stale, 412, "precondition-failed")
        deleted = await api("DELETE", path, headers={"If-Match": 'W/"2"'})
        assert deleted.code == 204


def test_application_is_wrapped_only_with_the_setting(services: Services) -> None:
    """Otherwise it would slow down each request."""
    app: HTTPServerConnectionDelegate = make_app(services)
    assert type(app).__name__ == "MemberCacheApplication"
