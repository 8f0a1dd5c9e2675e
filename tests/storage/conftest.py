"""The tests of stores run on both drivers, but for those of what queries find."""

from typing import Any

import pytest

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
