"""Every test of a store runs on both drivers."""

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.storage.mongo import Mongo, open_mongo


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def collected(driver: Any) -> Iterator[None]:
    """PyMongo's async client forgets a socket if it is closed or cancelled while it connects.

    It would be found, and held against, whichever test runs when garbage is next collected.
    """
    yield
    if driver == "pymongo":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def mongo(io_loop: IOLoop, servers: PrivateServers, database_name: str, driver: Any) -> Any:
    async def opened() -> Mongo:
        return open_mongo(servers.mongodb_uri, database_name, driver, timeout=5)

    mongo = io_loop.run_sync(opened)
    yield mongo
    io_loop.run_sync(mongo.close)
