"""What signals ask of the supervisor."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_ENDING, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """SIGTERM and Ctrl-C end the service, SIGHUP has it take up its settings anew.

    A terminal that is closed sends SIGHUP, too, by itself or through the shell in it. That ends a
    service that was started there, unless by nohup: told from the other meaning by whether there
    still is a terminal.
    """

    def __init__(self) -> None:
        self.stops = 0  # how often it was told to end
        self.reload = False
        self._wakes, self._awake = socket.socketpair()
        self._unwinds = False
        outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._ends_with_terminal = _has_terminal() and not outlives

    def fileno(self) -> int:
        """For whoever waits for signals."""
        return self._wakes.fileno()

    def take_over(self) -> None:
        """Handle them from now on."""
        for end in (self._wakes, self._awake):
            end.setblocking(False)
        for number in _HANDLED:
            signal.signal(number, self._handle)
        signal.set_wakeup_fd(self._awake.fileno(), warn_on_full_buffer=False)

    def sleep_again(self) -> None:
        """Be woken by the next one, not by those that came."""
        with suppress(BlockingIOError):
            while self._wakes.recv(4096):
                pass

    @contextmanager
    def unwinding(self) -> Iterator[None]:
        """Being told to end raises SystemExit within, where nobody would look at `stops`."""
        self._unwinds = True
        try:
            if self.stops:
                raise SystemExit(0)
            yield
        finally:
            self._unwinds = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """None arrives before the end of the block."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def leave_to(self, disposition: signal.Handlers) -> None:
        """Handle them no more: they are ignored, or do what they do by default."""
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else disposition)
        self._wakes.close()
        self._awake.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return  # it woke us
        if number == signal.SIGHUP and not (self._ends_with_terminal and not _has_terminal()):
            self.reload = True
            return
        self.stops += 1
        if self._unwinds:
            raise SystemExit(0)


def _has_terminal() -> bool:
    """Whether there is a controlling terminal, and it has not been hung up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
