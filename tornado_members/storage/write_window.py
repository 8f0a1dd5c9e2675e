"""The time within which a write may be sent to MongoDB.

The tombstones that keep readers from the cache expire. A process that is paused between placing
them and sending the write (SIGSTOP, a suspended machine, a long stall) must not send it any more.
So the clock is read immediately before each command is sent, on the connection itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pymongo import monitoring

# Returns the seconds that the write window of the context lasts; None without a window.
window_seconds: ContextVar[Callable[[], float] | None] = ContextVar("window_seconds", default=None)


class WriteHeldUp(BaseException):
    """A command was not sent, because its write window had ended.

    Not an Exception: the driver suppresses those that a listener raises.
    """


@contextmanager
def write_window(seconds_left: Callable[[], float]) -> Iterator[None]:
    """Send commands of the block only while `seconds_left` returns more than 0.

    It is called in threads of the driver, too. It must use a clock that advances while the process
    is stopped and while the machine sleeps (CLOCK_BOOTTIME): the driver's own deadlines use
    CLOCK_MONOTONIC, which does not count sleep.
    """
    token = window_seconds.set(seconds_left)
    try:
        yield
    finally:
        window_seconds.reset(token)


class WindowGuard(monitoring.CommandListener):
    """Refuses to send a command whose write window is over.

    Both drivers call `started` in the context of the operation when the command is encoded and a
    connection is there: nothing but the sending comes after it. Motor copies the context of the
    caller into its thread.
    """

    def started(self, _event: monitoring.CommandStartedEvent) -> None:
        """Raises WriteHeldUp."""
        seconds_left = window_seconds.get()
        if seconds_left is not None and seconds_left() <= 0:
            raise WriteHeldUp

    def succeeded(self, _event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, _event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""
