"""The tests of stores run on both drivers, but for those of what queries find."""

from functools import partial
from typing import Any

import pymongo
import pytest
from tornado.ioloop import IOLoop

from tests.support.mongodb import prepare_all
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo

# A query finds the same through both drivers. What they do in outages and with sessions differs.
EITHER_DRIVER = pytest.mark.parametrize(
    "driver", ["motor", pytest.param("pymongo", marks=pytest.mark.exhaustive)], indirect=True
)


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def garbage(collected: None) -> None:
    """Find lost sockets of PyMongo's asynchronous client in the test that lost them."""


@pytest.fixture
def store(io_loop: IOLoop, mongo: Mongo) -> MemberStore:
    store = MemberStore(mongo)
    io_loop.run_sync(partial(prepare_all, store))
    return store


@pytest.fixture
def members(admin: pymongo.MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collection itself, as another program reads and changes it."""
    return admin[database_name]["members"]
