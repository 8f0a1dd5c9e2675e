"""The states of a connection."""

from enum import Enum, auto


class State(Enum):
    """See the table in connection.py."""

    OPENING = auto()
    IDLE = auto()
    HEAD = auto()
    CALLING = auto()
    HELD = auto()
    BODY = auto()
    RESPONDING = auto()
    DISCARDING = auto()
    FLUSHING = auto()
    LINGERING = auto()
    CLOSING = auto()
    CLOSED = auto()


# Python 3.11 runs Python code for each look-up of a member. These names are looked up once.
(
    OPENING,
    IDLE,
    HEAD,
    CALLING,
    HELD,
    BODY,
    RESPONDING,
    DISCARDING,
    FLUSHING,
    LINGERING,
    CLOSING,
    CLOSED,
) = State
ENDING = frozenset({LINGERING, CLOSING, CLOSED})
AWAITS_CONTENT = frozenset({CALLING, HELD, BODY})
