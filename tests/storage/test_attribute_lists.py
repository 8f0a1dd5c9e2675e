"""Lists filtered by attributes are correct, and each query uses an index."""

from collections.abc import Iterator
from functools import partial
from itertools import combinations, product
from typing import Any

import pymongo
import pytest
from tornado.ioloop import IOLoop

from tests.storage.conftest import EITHER_DRIVER
from tests.storage.test_listing import ORDERS, case_fold, check_plans, profiled, query_after
from tests.support.mongodb import prepare_all
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.model.member import Member, parse_draft
from tornado_members.settings.attributes import AttributeSettings, field_table
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo

pytestmark = EITHER_DRIVER

Admin = pymongo.MongoClient[dict[str, Any]]
DECLARED = {
    "level": {"type": "string", "indexed": True},
    "tags": {"type": "string", "list": True, "indexed": True},
    "vip": {"type": "boolean", "indexed": True},
    "seen": {"type": "datetime", "indexed": True},
    "score": {"type": "integer", "indexed": True},
}
FIELDS = field_table(
    {name: AttributeSettings.model_validate(declared) for name, declared in DECLARED.items()}
)
MOMENTS = ("2026-11-22T11:05:42.123Z", "1999-01-01T00:00:00.000Z")
TOTAL = 300
WANTED: dict[str, Any] = {
    "attributes.level": "gold",
    "attributes.tags": "odd",
    "attributes.vip": False,
    "attributes.seen": MOMENTS[1],
    "attributes.score": 7,
}


@pytest.fixture
def store(io_loop: IOLoop, mongo: Mongo, admin: Admin, database_name: str) -> Iterator[MemberStore]:
    members = admin[database_name]["members"]
    members.drop()
    store = MemberStore(mongo, fields=FIELDS)
    io_loop.run_sync(partial(prepare_all, store))
    drafts = [
        parse_draft(
            {
                "name": f"{'Group' if i % 3 else 'Other'} {i}",
                "email": f"shared.{i % 9}@example.org",
                "attributes": {
                    "level": "gold" if i % 4 else "silver",
                    "tags": ["odd" if i % 2 else "even", f"tag {i}"],
                    "vip": i % 5 == 0,
                    "seen": MOMENTS[i % 2],
                    "score": i % 11,
                },
            },
            fields=FIELDS,
        )
        for i in range(TOTAL)
    ]
    io_loop.run_sync(lambda: store.insert_many(drafts))
    yield store
    members.drop()  # its indexes stay multikey


def has(member: Member, filters: Filters) -> bool:
    attributes = member.values["attributes"]
    for path, value in filters.attributes.items():
        stored = attributes[path.partition(".")[2]]
        if not (
            value in stored if isinstance(stored, list) else value is stored or value == stored
        ):
            return False
    if filters.name_prefix and not case_fold(member.name).startswith(filters.name_prefix):
        return False
    if "email" in filters.equal and member.values["email"] != filters.equal["email"]:
        return False
    return filters.q is None or member.name.startswith("Group") or "gro" in attributes["tags"]


def every_combination() -> Iterator[Filters]:
    for number, prefix, q, email in product((1, 5), (None, "group 1"), (None, "gro"), (0, 1)):
        for chosen in combinations(WANTED.items(), number):
            equal = {"email": "shared.7@example.org"} if email else {}
            yield Filters(None, prefix, equal, q, dict(chosen))


async def test_list_by_attributes_is_complete_and_uses_an_index(
    store: MemberStore, admin: Admin, database_name: str
) -> None:
    everyone = await store.page(ListQuery(limit=1000))
    assert len(everyone) == TOTAL
    for field, descending in ORDERS[1:3]:
        expected = sorted(everyone, key=ListQuery(field=field).key_of, reverse=descending)
        with profiled(admin, database_name) as entries:
            for filters in every_combination():
                query = ListQuery(filters, field, descending, limit=10)
                wanted = [member for member in expected if has(member, filters)]
                page = await store.page(query)
                assert page == wanted[:10], filters
                if page:
                    assert await store.page(query_after(query, page[-1])) == wanted[10:20], filters
                assert await store.count(filters) == len(wanted), filters
        assert entries
        check_plans(entries)
