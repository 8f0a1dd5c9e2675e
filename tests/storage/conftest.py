"""Every test of a store runs on both drivers."""

from typing import Any

import pytest


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def garbage(collected: None) -> None:
    """Find lost sockets of PyMongo's asynchronous client in the test that lost them."""
