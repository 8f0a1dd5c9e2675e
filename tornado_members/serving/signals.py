"""The signals of the supervisor."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_ENDING, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """SIGTERM and SIGINT stop the service; SIGHUP reloads its settings.

    A terminal that closes also sends SIGHUP, itself or through its shell. This stops a service that
    was started in it without nohup. The two meanings are distinguished by whether the controlling
    terminal still exists.
    """

    def __init__(self) -> None:
        self.stops = 0  # number of stop signals received
        self.reload = False
        self._reader, self._writer = socket.socketpair()
        self._raises_exit = False
        uses_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._ends_with_terminal = _has_terminal() and not uses_nohup

    def fileno(self) -> int:
        """Return the descriptor, which is readable when a signal has arrived."""
        return self._reader.fileno()

    def install(self) -> None:
        """Install the signal handlers."""
        for end in (self._reader, self._writer):
            end.setblocking(False)
        for number in _HANDLED:
            signal.signal(number, self._handle)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def clear(self) -> None:
        """Discard the pending wake-ups."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass

    @contextmanager
    def raising_exit(self) -> Iterator[None]:
        """Raise SystemExit in the block on a stop signal; for blocks that cannot check `stops`."""
        self._raises_exit = True
        try:
            if self.stops:
                raise SystemExit(0)
            yield
        finally:
            self._raises_exit = False

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Deliver no signal before the end of the block."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def uninstall(self, disposition: signal.Handlers) -> None:
        """Replace the handlers by SIG_IGN or SIG_DFL."""
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else disposition)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return  # the wake-up suffices
        if number == signal.SIGHUP and not (self._ends_with_terminal and not _has_terminal()):
            self.reload = True
            return
        self.stops += 1
        if self._raises_exit:
            raise SystemExit(0)


def _has_terminal() -> bool:
    """Return True if there is a controlling terminal and it was not closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
