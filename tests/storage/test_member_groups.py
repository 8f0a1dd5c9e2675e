"""MemberGroups on a real MongoDB, with both drivers."""

from typing import Any

import pymongo
import pytest
from bson import Int64

from tests.support.members import ADA, GRACE, make_draft, make_member
from tests.support.mongodb import failing
from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.documents import LAST_VERSION
from tornado_members.storage.member_groups import MemberGroups, Replacement
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo

Admin = pymongo.MongoClient[dict[str, Any]]


@pytest.fixture
def groups(mongo: Mongo) -> MemberGroups:
    return MemberGroups(mongo)


async def test_replace_is_repeated_once_and_then_leaves_members_to_be_written_alone(
    store: MemberStore, groups: MemberGroups, admin: Admin
) -> None:
    """The driver repeats the command, which writes each member once."""
    first = await store.insert_many([ADA, GRACE])
    read = [member for member in first if member]
    drafts = [make_draft(name=member.name, phone="555-0101") for member in read]
    lost = {"failCommands": ["update"], "closeConnection": True}
    with failing(admin, 1, **lost):
        replaced = await groups.replace([*map(Replacement, read, drafts)])
    assert replaced == await groups.find([member.member_id for member in read])
    assert [member.version for member in replaced if member] == [2, 2]
    assert groups.may_have(read[0].member_id)
    expired = {"failCommands": ["update"], "errorCode": 50}
    with failing(admin, 1, **expired), pytest.raises(DependencyUnavailable):
        await groups.replace([*map(Replacement, [member for member in replaced if member], drafts)])
    assert [groups.may_have(member_id) for member_id in (1, 2, 3)] == [False, False, True]


async def test_replace_does_not_exceed_the_last_version(
    store: MemberStore, groups: MemberGroups, members: Any
) -> None:
    ada, grace = await store.insert(ADA), await store.insert(GRACE)
    members.update_one({"_id": 1}, {"$set": {"version": Int64(LAST_VERSION)}})
    last = await store.find_member(ada.member_id)
    assert last is not None
    drafts = make_draft(name="Ada King"), make_draft(name="Grace Brewster Hopper")
    replaced = await groups.replace([*map(Replacement, [last, grace], drafts)])
    assert replaced == [None, make_member(2, 2, name="Grace Brewster Hopper")]
