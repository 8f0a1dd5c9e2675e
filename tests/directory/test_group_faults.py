"""Groups of writes whose command, or whose cache node, fails."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pymongo
import pytest
from pymongo import WriteConcern
from tornado.httpclient import HTTPResponse

from tests.directory.test_replacements import group_of
from tests.support.api import Api, parsed
from tests.support.mongodb import failing
from tornado_members.lease_cache.look_ups import Bypass
from tornado_members.member_entries import id_key, name_key
from tornado_members.services import Services
from tornado_members.settings import Settings

Admin = pymongo.MongoClient[dict[str, Any]]
COUNT = 4


async def create(api: Api) -> Sequence[int]:
    return [(await api.create(f"Ada {i}"))["memberId"] for i in range(COUNT)]


async def rename(api: Api, services: Services, ids: Sequence[int]) -> list[HTTPResponse]:
    """Rename members in one group."""
    beginning = asyncio.create_task(group_of(services, len(ids)))
    renamed = await asyncio.gather(
        *(api("PUT", f"/members/{member_id}", {"name": f"Grace {member_id}"}) for member_id in ids)
    )
    await beginning
    return renamed


async def marked(services: Services, ids: Sequence[int]) -> set[bytes]:
    """Return the keys of the members, and of their new names, that have a tombstone."""
    keys = [*map(id_key, ids), *(name_key(f"Grace {member_id}") for member_id in ids)]
    found = await services.directory._cache.look_up(keys)
    return {key for key, one in zip(keys, found, strict=True) if one == Bypass("tombstone")}


async def test_group_keeps_tombstones_on_ids_and_new_names_until_it_is_acknowledged(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = services.directory._replacements._members
    assert groups is not None
    ids, replace, seen = await create(api), groups.replace, []

    async def watched(replacements: Any) -> Any:
        seen.append(await marked(services, ids))
        replaced = await replace(replacements)
        seen.append(await marked(services, ids))
        return replaced

    monkeypatch.setattr(groups, "replace", watched)
    answers = await rename(api, services, ids)
    assert [answer.code for answer in answers] == [200] * COUNT
    assert [len(keys) for keys in seen] == [2 * COUNT] * 2
    assert await marked(services, ids) == set()


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "not-written"])
async def test_group_with_an_unknown_outcome_leaves_its_tombstones(
    api: Api, services: Services, admin: Admin, *, is_written: bool
) -> None:
    """A majority does not acknowledge the command, or MongoDB refuses it."""
    ids = await create(api)
    unacknowledged = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication"}}
    how = unacknowledged if is_written else {"errorCode": 50}
    with failing(admin, 1, failCommands=["update"], **how):
        answers = await rename(api, services, ids)
    assert [answer.code for answer in answers] == [503] * COUNT
    assert len(await marked(services, ids)) == 2 * COUNT
    majority = WriteConcern(w="majority", j=True)
    members = admin.get_database("test", write_concern=majority)["members"]
    members.delete_one({"_id": "none"})  # waits for the writes before it
    for member_id in ids:
        name = parsed(await api("GET", f"/members/{member_id}"))["name"]
        assert name.startswith("Grace" if is_written else "Ada")
    again = await rename_alone(api, ids)
    assert [answer.code for answer in again] == [200] * COUNT


async def rename_alone(api: Api, ids: Sequence[int]) -> list[HTTPResponse]:
    """Rename members at once. Members of a group that failed are written alone."""
    return await asyncio.gather(
        *(api("PUT", f"/members/{member_id}", {"name": f"Grace {member_id}"}) for member_id in ids)
    )


class TestLockedMember:
    """Another program's transaction has changed a member, and is not over."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        mongodb = settings.mongodb.model_copy(update={"timeout_ms": 500})
        cache = settings.cache.model_copy(update={"timeout_ms": 500})
        return settings.model_copy(update={"mongodb": mongodb, "cache": cache})

    async def test_locked_member_fails_its_group_once_and_then_only_itself(
        self, api: Api, services: Services, admin: Admin
    ) -> None:
        ids = await create(api)
        with admin.start_session() as session, session.start_transaction():
            locked = {"_id": ids[-1]}
            admin["test"]["members"].update_one(locked, {"$set": {"phone": "5"}}, session=session)
            failed = await rename(api, services, ids)
            alone = await rename_alone(api, ids)
            session.abort_transaction()
        assert [answer.code for answer in failed] == [503] * COUNT
        assert [answer.code for answer in alone] == [200] * (COUNT - 1) + [503]
        assert len(await marked(services, ids)) == 2 * COUNT  # those of the group
        last = await api("PUT", f"/members/{ids[-1]}", {"name": "Grace Hopper"})
        assert last.code == 200
        for one, answer in zip(ids, [*alone[:-1], last], strict=True):
            read = await api("GET", f"/members/{one}")
            assert (read.headers["Etag"], read.body) == (answer.headers["Etag"], answer.body)
