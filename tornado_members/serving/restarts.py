"""Restarts of workers and of private servers that have died, with growing pauses."""

import time
from logging import getLogger

import psutil

from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import EmbeddedError
from tornado_members.serving.signals import Signals
from tornado_members.serving.worker_process import WorkerProcess

log = getLogger(__name__)

_STABLE_SECONDS = 10  # a worker that lives longer ends a series of crashes
_FIRST_PAUSE = 0.5  # seconds between two restarts
_LONGEST_PAUSE = 30


class CrashBackoff:
    """Decides when a worker that has died is replaced: the first at once, later ones later."""

    def __init__(self) -> None:
        self._crashes = 0  # in quick succession
        self._next_fork_at = 0.0  # time.monotonic()

    def note_crash(self, worker: WorkerProcess) -> None:
        """Delay the next fork, if workers keep dying."""
        now = time.monotonic()
        if worker.is_ready and now - worker.started_at > _STABLE_SECONDS:
            self._crashes = 0
        pause = min(_FIRST_PAUSE * 2 ** (self._crashes - 1), _LONGEST_PAUSE) if self._crashes else 0
        self._crashes = min(self._crashes + 1, 10)
        self._next_fork_at = now + pause

    def may_fork(self) -> bool:
        """True if the pause is over."""
        return time.monotonic() >= self._next_fork_at


class PrivateServerRestarts:
    """Restarts private servers that have died."""

    def __init__(self, private: PrivateServers, signals: Signals) -> None:
        self._private = private
        self._signals = signals
        self._pause = _FIRST_PAUSE
        self._next_at = 0.0  # time.monotonic()

    def restart_dead(self) -> None:
        """Check the servers, unless they were checked a moment ago."""
        now = time.monotonic()
        if now < self._next_at:
            return
        try:
            with self._signals.raising_exit():
                restarted = self._private.restart_dead()
            for name in restarted:
                log.warning("the private %s had died and was restarted", name)
            self._pause = _FIRST_PAUSE
        except (EmbeddedError, OSError, psutil.Error) as error:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            log.error("%s; retrying in %d seconds", error, self._pause)
        except SystemExit:
            return
        self._next_at = now + self._pause
