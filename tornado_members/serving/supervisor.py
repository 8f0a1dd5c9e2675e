"""The process that everything else hangs from: it starts workers, watches them, replaces them."""

import gc
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from logging import getLogger
from typing import NoReturn

import psutil

from tornado_members.admin.aggregation import SharedSnapshot, WorkerAggregator
from tornado_members.embedded.private_servers import PrivateServers, servers_for
from tornado_members.embedded.programs import EmbeddedError
from tornado_members.errors import OperatorError
from tornado_members.serving.channel import FAILED, READY, REPLACE, STOP, Channel
from tornado_members.serving.reload import load_again
from tornado_members.serving.server import raise_file_limit
from tornado_members.serving.signals import Signals
from tornado_members.serving.sockets import Listening, listen, listen_for_admin
from tornado_members.serving.systemd import Notifier
from tornado_members.serving.tls import tls_context
from tornado_members.serving.watching import Watch
from tornado_members.serving.welcome import greet
from tornado_members.serving.worker import Work, run_worker
from tornado_members.settings import Settings, SettingsError, SettingsSource
from tornado_members.telemetry.logs import configure_logging

log = getLogger(__name__)

_TURN_SECONDS = 0.5
_CLOSING_SECONDS = 10  # for a worker to close its clients, once its requests have ended
_HURRIED_SECONDS = 2  # the same for one who was told a second time
_SETTLED_SECONDS = 10  # a worker that lives for longer does not keep dying
_LONGEST_PAUSE = 30  # seconds
_THREAD_SECONDS = 2


def run(settings: Settings, source: SettingsSource) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises OperatorError of some kind."""
    tls_context(settings.server.tls)
    raise_file_limit(settings.server.limits.connections)
    signals = Signals()
    signals.take_over()
    notifier = Notifier(os.environ)
    listening = listen(settings.server, os.environ)
    for_admin = listen_for_admin(settings.admin)
    private = servers_for(settings)
    try:
        with signals.unwinding():
            private.__enter__()
        try:
            Supervisor(
                settings,
                source,
                listening=listening,
                for_admin=for_admin,
                private=private,
                signals=signals,
                notifier=notifier,
            ).run()
        finally:
            private.__exit__()
    finally:
        signals.leave_to(signal.SIG_IGN)  # stopping is over but for the last lines
        listening.close()
        listening.remove_file()


@dataclass(eq=False, slots=True)
class _Worker:
    pid: int
    name: str
    channel: Channel
    generation: int  # of its settings
    born: float = field(default_factory=time.monotonic)
    serves: bool = False
    failure: str = ""  # why it could not begin
    killed_after: float | None = None  # time.monotonic(); set once it is to end

    @property
    def retires(self) -> bool:
        return self.killed_after is not None


class Supervisor:
    """Has as many workers as are wanted, with the settings that are wanted.

    What is wanted are workers of the present generation; a reload begins a new one. While there
    are any of an older one, one newcomer at a time is started, and one of the old ones retires for
    each that serves.
    """

    def __init__(
        self,
        settings: Settings,
        source: SettingsSource,
        *,
        listening: Listening,
        for_admin: Listening,
        private: PrivateServers,
        signals: Signals,
        notifier: Notifier,
    ) -> None:
        self._settings = settings
        self._source = source
        self._listening = listening
        self._admin_url = for_admin.url("http")
        self._private = private
        self._signals = signals
        self._notifier = notifier
        self._workers: list[_Worker] = []
        self._generation = 1
        self._started = False
        self._before: Settings | None = None  # what to go back to, until the new ones have worked
        self._renewing = False
        self._deaths = 0  # of workers, one soon after the other
        self._no_birth_before = 0.0
        self._revival_pause = _TURN_SECONDS
        self._next_revival = 0.0
        self._board = WorkerAggregator()
        self._watch = Watch(self._board, for_admin)
        self._watch.add(signals, signals.sleep_again)

    def run(self) -> None:
        """Start workers, and see to it that there are some until told to stop."""
        gc.collect()
        gc.freeze()  # what is here now is shared with the workers, as long as nobody touches it
        try:
            self._start()
            while not self._signals.stops:
                self._turn()
        finally:
            self._stop()
            self._watch.close()
            self._board.close()

    def _start(self) -> None:
        """The first worker makes what is missing, such as keys; then come the others.

        Raises OperatorError when one cannot begin.
        """
        while not self._signals.stops and len(self._workers) < self._wanted:
            worker = self._fork()
            while not (worker.serves or self._signals.stops):
                self._listen(_TURN_SECONDS)
                if worker not in self._workers:
                    raise OperatorError(worker.failure or "a worker died as it began; see the log")
        self._started = True
        if not self._signals.stops:
            scheme = "https" if self._settings.server.tls.certificate else "http"
            url = self._listening.url(scheme)
            greet(self._settings, self._source, url, self._admin_url, self._private)
            self._notifier.ready()

    def _turn(self) -> None:
        self._listen(_TURN_SECONDS)
        if self._signals.stops:
            return
        if self._signals.reload and not self._renewing:
            self._signals.reload = False
            self._reload()
        self._balance()
        self._revive()

    @property
    def _wanted(self) -> int:
        return self._settings.server.processes or len(os.sched_getaffinity(0))

    # What happens to workers

    def _listen(self, seconds: float) -> None:
        """Wait for news, at most so long, and take note of it."""
        self._watch.wait(seconds)
        for worker in list(self._workers):
            while message := worker.channel.hear():
                if message == READY:
                    self._began(worker)
                elif message.startswith(FAILED):
                    worker.failure = message[len(FAILED) :].decode("utf-8", "replace")
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._bury(worker, os.waitstatus_to_exitcode(status))
            elif worker.killed_after is not None and time.monotonic() > worker.killed_after:
                log.error("worker %d did not end in time, and is killed", worker.pid)
                worker.killed_after = float("inf")
                os.kill(worker.pid, signal.SIGKILL)

    def _began(self, worker: _Worker) -> None:
        log.info("worker %d serves", worker.pid)
        worker.serves = True
        if worker.generation == self._generation:
            self._before = None

    def _bury(self, worker: _Worker, code: int) -> None:
        self._workers.remove(worker)
        self._watch.remove(worker.channel)
        worker.channel.close()
        self._board.retire(worker.name)
        if worker.retires:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        why = f": {worker.failure}" if worker.failure else ""
        if self._before and worker.generation == self._generation:
            self._settings, self._before = self._before, None
            self._generation -= 1
            log.error("the new settings were not taken up, since a worker %s%s", how, why)
            return
        if not (self._started or worker.serves):
            log.error("worker %d %s%s", worker.pid, how, why)
            return  # and with it the start
        log.error("worker %d %s%s; another one takes its place", worker.pid, how, why)
        now = time.monotonic()
        if worker.serves and now - worker.born > _SETTLED_SECONDS:
            self._deaths = 0
        pause = min(0.5 * 2 ** (self._deaths - 1), _LONGEST_PAUSE) if self._deaths else 0
        self._deaths = min(self._deaths + 1, 10)
        self._no_birth_before = now + pause

    # What is to happen

    def _reload(self) -> None:
        try:
            settings = load_again(self._source, self._settings)
        except SettingsError as error:
            log.error("the new settings were not taken up: %s", error)
            return
        log.info("new settings are taken up")
        self._notifier.reloading()
        configure_logging(settings.log.level, settings.log.format, sys.stdout)
        self._before, self._settings = self._settings, settings
        self._generation += 1
        self._renewing = True
        self._deaths = 0
        self._no_birth_before = 0.0

    def _balance(self) -> None:
        """One step towards as many workers as are wanted, all of the present generation."""
        staying = [worker for worker in self._workers if not worker.retires]
        old = [worker for worker in staying if worker.generation != self._generation]
        if old and any(worker.retires or not worker.serves for worker in self._workers):
            return  # one after another
        if len(staying) > self._wanted:
            self._retire((old or staying)[0], REPLACE)
        elif old or len(staying) < self._wanted:
            if time.monotonic() >= self._no_birth_before:
                self._fork()
        elif self._renewing and all(w.serves and not w.retires for w in self._workers):
            self._renewing = False
            self._notifier.ready()

    def _retire(self, worker: _Worker, order: bytes) -> None:
        """Tell it to end; it is killed if it has not when its time is up."""
        drain = self._settings.server.drain_seconds + _CLOSING_SECONDS
        if order == STOP:
            drain += self._settings.server.unready_seconds
        worker.killed_after = time.monotonic() + drain
        worker.channel.tell(order)
        if not worker.serves:  # it does not listen to orders yet
            os.kill(worker.pid, signal.SIGTERM)

    def _stop(self) -> None:
        """End all workers, and wait until they have."""
        log.info("stopping")
        self._notifier.stopping()
        self._board.draining = True
        self._listening.close()
        for worker in self._workers:
            if not worker.retires:
                self._retire(worker, STOP)
        told = self._signals.stops
        while self._workers:
            self._listen(_TURN_SECONDS)
            if self._signals.stops > told:  # somebody is in a hurry
                told = self._signals.stops
                for worker in self._workers:
                    worker.channel.tell(STOP)
                    worker.killed_after = time.monotonic() + _HURRIED_SECONDS

    def _revive(self) -> None:
        """A private server that died is started again."""
        now = time.monotonic()
        if now < self._next_revival:
            return
        try:
            with self._signals.unwinding():
                revived = self._private.revive()
            for name in revived:
                log.warning("the private %s had died, and was started again", name)
            self._revival_pause = _TURN_SECONDS
        except (EmbeddedError, OSError, psutil.Error) as error:
            self._revival_pause = min(self._revival_pause * 2, 30)
            log.error("%s; trying again in %d seconds", error, self._revival_pause)
        except SystemExit:
            return
        self._next_revival = now + self._revival_pause

    # How one begins

    def _fork(self) -> _Worker:
        _await_other_threads()
        ours, theirs = Channel.pair()
        names = {worker.name for worker in self._workers}
        name = next(str(n) for n in range(1, len(names) + 2) if str(n) not in names)
        page = self._board.add(name)
        supervisor = os.getpid()
        with self._signals.held():
            pid = os.fork()
            if pid == 0:
                self._become_worker(ours, theirs, page, supervisor)
        theirs.close()
        worker = _Worker(pid, name, ours, self._generation)
        self._workers.append(worker)
        self._watch.add(ours)
        return worker

    def _become_worker(
        self, ours: Channel, theirs: Channel, page: SharedSnapshot, supervisor: int
    ) -> NoReturn:
        """Go on as a worker, with nothing of the supervisor's but what it is given."""
        code = 1
        try:
            self._signals.leave_to(signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._watch.forget()
            for channel in (ours, *(worker.channel for worker in self._workers)):
                channel.close()
            work = Work(self._settings, self._listening, self._private, theirs, page, supervisor)
            code = run_worker(work)
        except BaseException:
            log.exception("a worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # the stack above is the supervisor's


def _await_other_threads() -> None:
    """Wait until this thread is the only one: a lock that another holds would stay locked.

    A MongoDB client that was closed, after private servers were started, takes a while to end its.
    """
    deadline = time.monotonic() + _THREAD_SECONDS
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
