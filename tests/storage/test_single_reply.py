"""A page is found with one command if it fits into one reply, and otherwise with a cursor."""

from itertools import product

import pytest

from tests.storage.conftest import EITHER_DRIVER
from tests.storage.test_listing import profiled
from tests.support.members import make_draft
from tests.support.mongodb import Admin, failing
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.storage.members import MemberStore


@EITHER_DRIVER
@pytest.mark.parametrize("sort", ["memberId", "name"])
async def test_page_is_complete_although_it_exceeds_one_reply(
    store: MemberStore, admin: Admin, database_name: str, sort: str
) -> None:
    """A reply of MongoDB has at most 16 MiB, and ends where the next document does not fit."""
    members = admin[database_name]["members"]
    members.delete_many({})
    large = "x" * 600_000  # of another program; no request can have it
    members.insert_many({"_id": i, "name": f"Ada {i}", "phone": large} for i in range(10, 50))
    before = open_cursors(admin, members.full_name)  # of earlier tests, which killed their clients
    page = await store.page_json(ListQuery(field=sort, limit=41))  # type: ignore[arg-type]
    expected = [*range(10, 50)] if sort == "memberId" else [f"Ada {i}" for i in range(10, 50)]
    assert page.keys == expected
    assert open_cursors(admin, members.full_name) <= before


def open_cursors(admin: Admin, collection: str) -> set[int]:
    """Return the ids of the cursors on a collection that MongoDB keeps open."""
    found = admin.admin.aggregate(
        [
            {"$currentOp": {"idleCursors": True, "allUsers": True}},
            {"$match": {"type": "idleCursor", "ns": collection}},
        ]
    )
    return {int(reply["cursor"]["cursorId"]) for reply in found}


async def test_page_is_read_again_after_a_lost_connection(store: MemberStore, admin: Admin) -> None:
    await store.insert(make_draft(name="Ada"))
    for times in (1, 2):
        with failing(admin, times, failCommands=["find"], closeConnection=True):
            assert len((await store.page_json(ListQuery(limit=2))).keys) == 1
    with failing(admin, 1, failCommands=["find"], errorCode=13436):  # no primary any more
        assert len((await store.page_json(ListQuery(limit=2))).keys) == 1


@EITHER_DRIVER
async def test_full_page_takes_one_command(
    store: MemberStore, admin: Admin, database_name: str
) -> None:
    """Also with a sort, after which MongoDB keeps the cursor of a full batch open."""
    await store.insert_many([make_draft(name=f"Ada {i}") for i in range(9)])
    for filters, limit in product((Filters(), Filters(q="ada")), (2, 8)):
        query = ListQuery(filters, limit=limit)
        await store.page_json(query)  # which counts the members with the word
        with profiled(admin, database_name, with_kills=True) as entries:
            await store.page_json(query)
        assert [next(iter(entry["command"])) for entry in entries] == ["find"]


@EITHER_DRIVER
async def test_page_is_majority_committed(
    store: MemberStore, admin: Admin, database_name: str
) -> None:
    admin[database_name].command("profile", 2)
    try:
        for limit in (2, 500):
            await store.page(ListQuery(limit=limit))
        found = admin[database_name]["system.profile"].find(
            {"appName": "tornado_members", "command.find": "members"}
        )
        concerns = [entry["command"]["readConcern"]["level"] for entry in found]
    finally:
        admin[database_name].command("profile", 0)
        admin[database_name].drop_collection("system.profile")
    assert concerns == ["majority", "majority"]
