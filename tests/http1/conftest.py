"""The server is tested on both event loops, wherever the loop can make a difference."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Main = Coroutine[Any, Any, Any]


class Run:
    """Runs a coroutine on a loop of its own."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop

    def __call__(self, main: Main) -> Any:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(main)

    @staticmethod
    def on_asyncio(main: Main) -> Any:
        """Where the loop makes no difference."""
        return asyncio.run(main)


@pytest.fixture(
    params=[
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop", marks=pytest.mark.exhaustive),
    ]
)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)
