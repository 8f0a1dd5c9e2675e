"""PageGroups: a page that is read with others is the page that is read alone."""

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import pytest
from bson import Decimal128
from tornado.ioloop import IOLoop

from tests.storage.conftest import EITHER_DRIVER
from tests.storage.test_listing import ORDERS, profiled
from tests.support.members import make_draft
from tests.support.mongodb import Admin, failing, prepare_all
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.page_groups import PageGroups

pytestmark = EITHER_DRIVER

COUNT = 20
FOREIGN: list[dict[str, Any]] = [
    {"_id": 5.5, "name": "Ada 05 and a half"},
    {"_id": Decimal128("9"), "name": "Ada 09"},
    {"_id": 13, "name": ["Ada 13"]},
    {"_id": 14, "name": None},
    {"_id": 15.0, "name": "Ada 15", "phone": 555},  # a member in another form
    {"_id": 2**53, "name": "Ada 53"},
    {"_id": "x", "name": "Ada x"},
    {"_id": True, "name": "Ada true"},
]


@pytest.fixture
def store(io_loop: IOLoop, mongo: Mongo, admin: Admin, database_name: str) -> MemberStore:
    admin[database_name]["members"].drop()  # with its indexes, some of which may be multikey
    store = MemberStore(mongo)
    io_loop.run_sync(partial(prepare_all, store))
    return store


@pytest.fixture
def groups(store: MemberStore) -> PageGroups:
    return store.page_groups


def queries() -> list[ListQuery]:
    """Return pages of every size in every order, from every position and behind the last one."""
    found = []
    for (field, descending), limit in product(ORDERS, (1, 2, COUNT, COUNT + 10)):
        positions = range(0, COUNT + 9, 3)
        after = [*positions] if field == "memberId" else [f"Ada {i:02}" for i in positions]
        found += [
            ListQuery(Filters(), field, descending, cursor, limit) for cursor in (None, *after)
        ]
    return found


@pytest.mark.parametrize("has_foreign", [False, True], ids=["members", "foreign"])
async def test_page_of_a_group_is_the_page_that_is_read_alone(
    store: MemberStore, groups: PageGroups, admin: Admin, database_name: str, has_foreign: bool
) -> None:
    await store.insert_many([make_draft(name=f"Ada {i:02}") for i in range(1, COUNT + 1)])
    if has_foreign:
        members = admin[database_name]["members"]
        members.delete_many({"_id": {"$in": [document["_id"] for document in FOREIGN]}})
        members.insert_many(FOREIGN)
    wanted = queries()
    assert all(map(groups.may_have, wanted))
    pages = await groups.read(wanted)
    for query, page in zip(wanted, pages, strict=True):
        assert page in (await store.page_json(query), None), query
    assert has_foreign == (None in pages)
    assert len([page for page in pages if page]) > len(wanted) / 3


async def test_group_reads_the_keys_and_documents_of_its_pages_only(
    store: MemberStore, groups: PageGroups, admin: Admin, database_name: str
) -> None:
    await store.insert_many([make_draft(name=f"Ada {i:02}") for i in range(1, 100)])
    pages = [ListQuery(field=field, descending=down, limit=9) for field, down in ORDERS]
    pages += [replace(page, after=50 if page.field == "memberId" else "Ada 50") for page in pages]
    with profiled(admin, database_name) as entries:
        assert None not in await groups.read(pages)
    (entry,) = entries
    assert (entry["keysExamined"], entry["docsExamined"]) == (80, 80)
    assert entry["command"]["readConcern"] == {"level": "majority"}


def test_only_small_pages_without_filters_are_in_groups(groups: PageGroups) -> None:
    assert groups.may_have(ListQuery(limit=100))
    assert not groups.may_have(ListQuery(limit=101))
    assert not groups.may_have(ListQuery(Filters(q="ada")))


@pytest.mark.parametrize(
    "how",
    [
        {"errorCode": 40324},  # an unknown stage
        {"closeConnection": True},
        {"blockConnection": True, "blockTimeMS": 1300},
    ],
    ids=["refused", "disconnected", "slow"],
)
async def test_pages_of_a_group_that_fails_are_read_alone(
    store: MemberStore, admin: Admin, how: dict[str, Any]
) -> None:
    groups = PageGroups(store.mongo.with_timeout(3))  # a quarter of it for the group
    with failing(admin, 1, failCommands=["aggregate"], **how):
        assert await groups.read([ListQuery(), ListQuery(limit=1)]) == [None, None]
    assert not groups.may_have(ListQuery())  # for a minute


async def test_pages_that_exceed_one_reply_together_are_read_alone(
    groups: PageGroups, admin: Admin, database_name: str
) -> None:
    large = "x" * 600_000  # of another program
    admin[database_name]["members"].insert_many(
        {"_id": i, "name": f"Ada {i}", "phone": large} for i in range(1, 21)
    )
    assert await groups.read([ListQuery(), ListQuery(descending=True)]) == [None, None]
