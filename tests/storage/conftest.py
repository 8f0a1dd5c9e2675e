"""Every test of a store runs on both drivers."""

from typing import Any

import pytest


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def garbage(collected: None) -> None:
    """Sockets that PyMongo's async client forgets are found where they were lost."""
