"""The state table of a connection. A fixture checks each test in this folder against it."""

from tests.http1.conftest import Run, transitions
from tests.support.http1 import GET, LAST, echo, exchange, parse_responses, serving
from tornado_members.http1.states import State


def test_state_table_has_every_state_and_each_is_reachable() -> None:
    table = transitions()
    assert {*table} == {*State}
    assert {state for states in table.values() for state in states} == {*State} - {State.OPENING}
    assert table[State.CLOSED] == set()
    assert table[State.RESPONDING] == {
        *(State.FLUSHING, State.IDLE, State.LINGERING, State.CLOSING, State.CLOSED)
    }


def test_two_requests_take_the_drawn_transitions(
    run: Run, observed: set[tuple[State, State]]
) -> None:
    put = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"

    async def main() -> None:
        async with serving(echo()) as (_, address):
            assert (
                len(parse_responses(await exchange(address, GET, put[:20], put[20:-1], b"o", LAST)))
                == 3
            )

    run(main())
    expected = [
        *((State.OPENING, State.IDLE), (State.IDLE, State.CALLING), (State.CALLING, State.BODY)),
        *((State.CALLING, State.RESPONDING), (State.BODY, State.RESPONDING)),
        *((State.IDLE, State.HEAD), (State.HEAD, State.CALLING), (State.BODY, State.CALLING)),
        (State.RESPONDING, State.IDLE),
        *((State.RESPONDING, State.CLOSING), (State.CLOSING, State.CLOSED)),
    ]
    assert observed == {*expected}
