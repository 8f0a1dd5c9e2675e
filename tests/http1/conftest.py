"""Runs the tests on both event loops where that matters, and checks each state transition."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from tornado_members.http1 import connection
from tornado_members.http1.connection import Connection
from tornado_members.http1.states import State

Main = Coroutine[Any, Any, Any]


class Run:
    """Runs a coroutine on a new event loop."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop

    def __call__(self, main: Main) -> Any:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            return runner.run(main)

    @staticmethod
    def on_asyncio(main: Main) -> Any:
        """Run a test for which the loop makes no difference."""
        return asyncio.run(main)


@pytest.fixture(
    params=[
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(uvloop.new_event_loop, id="uvloop", marks=pytest.mark.exhaustive),
    ]
)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


_FEW_ENDS = {State.OPENING, State.LINGERING, State.CLOSING, State.CLOSED}


def transitions() -> dict[State, set[State]]:
    """Parse the table of states in the docstring of connection.py."""
    table: dict[State, set[State]] = {}
    state = State.OPENING
    for line in str(connection.__doc__).splitlines():
        if found := re.match(r"([A-Z]+)  ", line):
            state = State[found[1]]
            table[state] = set() if state in _FEW_ENDS else {State.LINGERING, State.CLOSING}
        elif not line.startswith("  "):
            continue
        table[state] |= {State.CLOSED, *(State[name] for name in line[72:].split())}
    table[State.CLOSED].clear()
    return table


@pytest.fixture(autouse=True)
def observed(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[State, State]]]:
    """Record all state transitions in a test. Each must be in the table."""
    changes: set[tuple[State, State]] = set()

    def change(one: Any, new: State) -> None:
        old = vars(one).get("_state", new)
        if old is not new:
            changes.add((old, new))
        vars(one)["_state"] = new

    state = property(lambda connection: vars(connection)["_state"], change)
    monkeypatch.setattr(Connection, "state", state, raising=False)
    yield changes
    table = transitions()
    wrong = [f"{old.name} -> {new.name}" for old, new in changes if new not in table[old]]
    assert not wrong
