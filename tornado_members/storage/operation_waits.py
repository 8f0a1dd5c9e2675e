"""Measures the time that operations wait for a thread or a connection of the driver."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pymongo import monitoring


class OperationWaits:
    """The waits of a client's operations until their first command is sent."""

    def __init__(self) -> None:
        self._since: dict[object, float] = {}  # time.monotonic(), of the waiting operations
        self._last = 0.0  # seconds that the operation waited which was sent last

    @property
    def recent(self) -> float:
        """The wait of the operation that was sent last, in seconds; 0 if none waits now.

        While MongoDB is unavailable, no operation is sent, and this does not grow.
        """
        return self._last if self._since else 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the wait of an operation, from the start of the block."""
        operation = object()
        self._since[operation] = time.monotonic()
        token = _current.set((self, operation))
        try:
            yield
        finally:
            _current.reset(token)
            self._since.pop(operation, None)

    def sent(self, operation: object) -> None:
        """Note the first command of an operation. Threads of the driver call this, too."""
        if (since := self._since.pop(operation, None)) is not None:
            self._last = time.monotonic() - since

    def ignore(self, operation: object) -> None:
        """Do not measure an operation, because it waits for something else."""
        self._since.pop(operation, None)


_current: ContextVar[tuple[OperationWaits, object] | None] = ContextVar("_current", default=None)


def ignore_wait() -> None:
    """Do not measure the operation of this context: it waits for other operations of its member."""
    if current := _current.get():
        waits, operation = current
        waits.ignore(operation)


class SendingListener(monitoring.CommandListener):
    """Ends the wait of an operation when its first command is sent.

    Both drivers call `started` in the context of the operation, as WindowGuard explains.
    """

    def started(self, _event: monitoring.CommandStartedEvent) -> None:
        """End the wait."""
        if current := _current.get():
            waits, operation = current
            waits.sent(operation)

    def succeeded(self, _event: monitoring.CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, _event: monitoring.CommandFailedEvent) -> None:
        """Do nothing."""
