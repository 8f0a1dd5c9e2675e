"""The change feed reports members with their attributes."""

import pytest

from tests.feed.conftest import Follow
from tests.handlers.test_attributes import DECLARED, PATCH, declaring
from tests.support.api import Api, parsed
from tornado_members.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return declaring(settings, DECLARED)


async def test_feed_reports_attributes(api: Api, follow: Follow) -> None:
    async with follow() as stream:
        await stream.event()
        ada = await api.create("Ada", attributes={"level": "gold", "seen": "2026-11-22T11:05:42Z"})
        assert (await stream.event()).data["member"] == ada
        patch = {"attributes": {"seen": None, "score": 5}}
        changed = await api("PATCH", "/members/1", patch, headers=PATCH)
        assert (await stream.event()).data["member"] == parsed(changed)
    batch = await api("GET", "/members?memberId=1")
    assert parsed(batch)["items"] == [parsed(changed)]
