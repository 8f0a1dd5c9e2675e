"""The instrument that watches the event loop in all tests finds slow callbacks."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.slow_callbacks import MOST_SECONDS, SlowCallbacks


def spin() -> None:
    """Use more processor time than a callback may."""
    until = time.thread_time() + MOST_SECONDS + 0.005
    while time.thread_time() < until:
        pass


class OfTheService:
    """Like a class of the product."""

    __module__ = "tornado_members.pretended"

    def callback(self) -> None:
        spin()


def coroutine_of_the_service() -> Callable[[], Any]:
    source = "async def serve():\n    spin()\n"
    namespace: dict[str, Any] = {"spin": spin}
    exec(compile(source, "/x/tornado_members/pretended.py", "exec"), namespace)  # noqa: S102
    return namespace["serve"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (lambda loop: loop.call_soon(OfTheService().callback), "OfTheService.callback"),
        (lambda loop: loop.call_later(0, OfTheService().callback), "OfTheService.callback"),
        (lambda loop: loop.create_task(coroutine_of_the_service()()), "serve"),
        (lambda loop: loop.call_soon(spin), None),
    ],
    ids=["callback", "timer", "task", "a callback of a test"],
)
async def test_slow_callbacks_of_the_service_are_found(
    slow_callbacks: SlowCallbacks, start: Callable[[asyncio.AbstractEventLoop], Any], name: str
) -> None:
    started = start(asyncio.get_running_loop())
    await asyncio.sleep(0.01)
    found = [text.split(": ")[1] for text in slow_callbacks.found]
    slow_callbacks.found.clear()
    assert found == ([name] if name else [])
    del started
