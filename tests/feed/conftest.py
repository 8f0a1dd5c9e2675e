"""Fixtures of the tests of the change feed."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pymongo
import pytest

from tests.support.api import token_of
from tests.support.feed_client import FeedStream, following
from tests.support.wire import AnyServer, address_of
from tornado_members.storage import change_reader

Follow = Callable[..., AbstractAsyncContextManager[FeedStream]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll an idle stream more often."""
    monkeypatch.setattr(change_reader, "_AWAIT_MS", 30)


@pytest.fixture
def follow(http_server: AnyServer) -> Follow:
    """Open a stream of the service under test, with a token that may read."""
    return partial(following, address_of(http_server), token_of(1))


@pytest.fixture
def members(admin: pymongo.MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collection itself, as another program changes it."""
    return admin[database_name]["members"]
