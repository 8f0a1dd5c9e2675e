"""The supervisor: the process that forks the workers, monitors them and replaces them."""

import gc
import os
import signal
import sys
import threading
import time
from logging import getLogger
from typing import NoReturn

from tornado_members.admin.aggregation import SharedSnapshot, WorkerAggregator
from tornado_members.admin.summary import summarize
from tornado_members.embedded.private_servers import PrivateServers, servers_for
from tornado_members.errors import OperatorError
from tornado_members.http.allowed_hosts import AllowedHosts
from tornado_members.services import Opening, prepare_tables
from tornado_members.serving.channel import FAILED, READY, REPLACE, STOP, Channel
from tornado_members.serving.event_wait import EventWait
from tornado_members.serving.reload import reload_settings
from tornado_members.serving.restarts import CrashBackoff, PrivateServerRestarts
from tornado_members.serving.server import loop_factory, raise_file_limit
from tornado_members.serving.signals import Signals
from tornado_members.serving.sockets import Listeners, listen, listen_for_admin
from tornado_members.serving.startup_banner import print_banner
from tornado_members.serving.systemd import Notifier
from tornado_members.serving.tls import tls_context
from tornado_members.serving.worker import WorkerContext, run_worker
from tornado_members.serving.worker_process import WorkerProcess
from tornado_members.settings import Settings, SettingsError, SettingsSource
from tornado_members.telemetry.logs import configure_logging

log = getLogger(__name__)

_TICK_SECONDS = 0.5
_STATUS_SECONDS = 1.0
_CLOSE_SECONDS = 10  # for a worker to close its connections once its requests have ended
_FORCED_CLOSE_SECONDS = 2  # the same after a second stop signal
_THREAD_SECONDS = 2


def run(settings: Settings, source: SettingsSource, *, drop_indexes: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. Raises OperatorError if the service cannot start.

    `drop_indexes` drops the indexes that no declaration needs, once.
    """
    tls_context(settings.server.tls)
    raise_file_limit(settings.server.limits.connections)
    signals = Signals()
    signals.install()
    notifier = Notifier(os.environ)
    listeners = listen(settings.server, os.environ)
    admin_listeners = listen_for_admin(settings.admin)
    private = servers_for(settings)
    try:
        with signals.raising_exit():
            private.__enter__()
        try:
            Supervisor(
                settings,
                source,
                listeners=listeners,
                admin_listeners=admin_listeners,
                private=private,
                signals=signals,
                notifier=notifier,
                drop_indexes=drop_indexes,
            ).run()
        finally:
            private.__exit__()
    finally:
        signals.uninstall(signal.SIG_IGN)  # only the last cleanup is left
        listeners.close()
        listeners.remove_file()


class Supervisor:
    """Keeps the configured number of workers running with the current settings.

    A reload starts a new generation of workers. While workers of an older generation run, one new
    worker at a time is forked, and one old worker is stopped for each new one that is ready.
    """

    def __init__(
        self,
        settings: Settings,
        source: SettingsSource,
        *,
        listeners: Listeners,
        admin_listeners: Listeners,
        private: PrivateServers,
        signals: Signals,
        notifier: Notifier,
        drop_indexes: bool = False,
    ) -> None:
        self._settings = settings
        self._source = source
        self._listeners = listeners
        self._admin_url = admin_listeners.url("http")
        self._private = private
        self._signals = signals
        self._notifier = notifier
        self._workers: list[WorkerProcess] = []
        self._generation = 1
        self._last_announced = 0  # the generation whose first worker was forked
        self._drop_indexes = drop_indexes
        self._started = False
        self._previous: Settings | None = None  # restored if no worker starts with the new ones
        self._reloading = False
        self._backoff = CrashBackoff()
        self._private_restarts = PrivateServerRestarts(private, signals)
        self._cluster_id: str | None = None  # of the database that the workers use
        self._aggregator = WorkerAggregator()
        self._status = SharedSnapshot()  # for the workers, with console.status
        self._next_status_at = 0.0  # time.monotonic()
        self._events = EventWait(
            self._aggregator, admin_listeners, AllowedHosts(settings.admin.hosts)
        )
        self._events.add(signals, signals.clear)

    def run(self) -> None:
        """Start the workers, and supervise them until a stop signal."""
        prepare_tables()  # the workers share them
        loop_factory(self._settings.server.transport)  # imports uvloop, which they share
        gc.collect()
        gc.freeze()  # keeps the pages of these objects shared with the workers
        try:
            self._start()
            while not self._signals.stops:
                self._tick()
        finally:
            self._stop()
            self._events.close()
            self._aggregator.close()
            self._status.close()

    def _start(self) -> None:
        """Start the workers one by one: the first one creates missing indexes and keys.

        Raises OperatorError if a worker cannot start.
        """
        while not self._signals.stops and len(self._workers) < self._target:
            worker = self._spawn_worker()
            while not (worker.is_ready or self._signals.stops):
                self._wait(_TICK_SECONDS)
                if worker not in self._workers:
                    raise OperatorError(worker.failure or "a worker died at its start; see the log")
        self._started = True
        if not self._signals.stops:
            scheme = "https" if self._settings.server.tls.certificate else "http"
            url = self._listeners.url(scheme)
            api = f"{url}{self._settings.server.base_path}"
            print_banner(self._settings, self._source, api, self._admin_url, self._private)
            self._notifier.ready()

    def _tick(self) -> None:
        self._wait(_TICK_SECONDS)
        if self._signals.stops:
            return
        if self._signals.reload and not self._reloading:
            self._signals.reload = False
            self._reload()
        self._reconcile()
        self._private_restarts.restart_dead()
        self._write_status()

    def _write_status(self) -> None:
        """Write the status of the whole service, for the workers: each has only its own."""
        now = time.monotonic()
        if self._settings.console.status and now >= self._next_status_at:
            self._next_status_at = now + _STATUS_SECONDS
            self._status.write(summarize(self._aggregator))

    @property
    def _target(self) -> int:
        return self._settings.server.processes or len(os.sched_getaffinity(0))

    def _wait(self, seconds: float) -> None:
        """Wait for events for at most `seconds`, and handle messages and ends of workers."""
        self._events.wait(seconds)
        for worker in list(self._workers):
            while message := worker.channel.receive():
                if message.startswith(READY):
                    self._cluster_id = message[len(READY) :].decode()
                    self._worker_ready(worker)
                elif message.startswith(FAILED):
                    worker.failure = message[len(FAILED) :].decode("utf-8", "replace")
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._reap(worker, os.waitstatus_to_exitcode(status))
            elif worker.kill_at is not None and time.monotonic() > worker.kill_at:
                log.error("worker %d did not stop in time; killing it", worker.pid)
                worker.kill_at = float("inf")
                os.kill(worker.pid, signal.SIGKILL)

    def _worker_ready(self, worker: WorkerProcess) -> None:
        log.info("worker %d ready", worker.pid)
        worker.is_ready = True
        if worker.generation == self._generation:
            self._previous = None

    def _reap(self, worker: WorkerProcess, code: int) -> None:
        self._workers.remove(worker)
        self._events.remove(worker.channel)
        worker.channel.close()
        self._aggregator.retire(worker.name)
        if worker.is_stopping:
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        why = f": {worker.failure}" if worker.failure else ""
        if self._previous and worker.generation == self._generation:
            self._settings, self._previous = self._previous, None
            self._generation -= 1
            log.error("the new settings were not applied: a worker %s%s", how, why)
            return
        if not (self._started or worker.is_ready):
            log.error("worker %d %s%s", worker.pid, how, why)
            return  # the start fails
        log.error("worker %d %s%s; starting a replacement", worker.pid, how, why)
        self._backoff.note_crash(worker)

    def _reload(self) -> None:
        try:
            settings = reload_settings(self._source, self._settings)
        except SettingsError as error:
            log.error("the new settings were not applied: %s", error)
            return
        log.info("applying new settings")
        self._notifier.reloading()
        configure_logging(settings.log.level, settings.log.format, sys.stdout)
        self._previous, self._settings = self._settings, settings
        self._generation += 1
        self._reloading = True
        self._backoff = CrashBackoff()

    def _reconcile(self) -> None:
        """Take one step towards the target number of workers of the current generation."""
        staying = [worker for worker in self._workers if not worker.is_stopping]
        old = [worker for worker in staying if worker.generation != self._generation]
        if old and any(worker.is_stopping or not worker.is_ready for worker in self._workers):
            return  # replace one at a time
        if len(staying) > self._target:
            self._stop_worker((old or staying)[0], REPLACE)
        elif old or len(staying) < self._target:
            if self._backoff.may_fork():
                self._spawn_worker()
        elif self._reloading and all(w.is_ready and not w.is_stopping for w in self._workers):
            self._reloading = False
            self._notifier.ready()

    def _stop_worker(self, worker: WorkerProcess, order: bytes) -> None:
        """Send STOP or REPLACE to a worker; it is killed if it does not stop in time."""
        drain = self._settings.server.drain_seconds + _CLOSE_SECONDS
        if order == STOP:
            drain += self._settings.server.unready_seconds
        worker.kill_at = time.monotonic() + drain
        worker.channel.send(order)
        if not worker.is_ready:  # it does not read its channel yet
            os.kill(worker.pid, signal.SIGTERM)

    def _stop(self) -> None:
        """Stop all workers, and wait until they have ended."""
        log.info("stopping")
        self._notifier.stopping()
        self._aggregator.draining = True
        self._listeners.close()
        for worker in self._workers:
            if not worker.is_stopping:
                self._stop_worker(worker, STOP)
        stops = self._signals.stops
        while self._workers:
            self._wait(_TICK_SECONDS)
            if self._signals.stops > stops:  # a second signal forces the stop
                stops = self._signals.stops
                for worker in self._workers:
                    worker.channel.send(STOP)
                    worker.kill_at = time.monotonic() + _FORCED_CLOSE_SECONDS

    def _spawn_worker(self) -> WorkerProcess:
        _join_other_threads()
        ours, theirs = Channel.pair()
        names = {worker.name for worker in self._workers}
        name = next(str(n) for n in range(1, len(names) + 2) if str(n) not in names)
        snapshot = self._aggregator.add(name)
        supervisor = os.getpid()
        opening = Opening(
            is_first=self._last_announced != self._generation,
            drop_indexes=self._drop_indexes and self._cluster_id is None,
            waits_for_lists=self._reloading,
        )
        self._last_announced = self._generation
        with self._signals.blocked():
            pid = os.fork()
            if pid == 0:
                self._run_worker(ours, theirs, snapshot, supervisor, opening)
        theirs.close()
        worker = WorkerProcess(pid, name, ours, self._generation)
        self._workers.append(worker)
        self._events.add(ours)
        return worker

    def _run_worker(
        self,
        ours: Channel,
        theirs: Channel,
        snapshot: SharedSnapshot,
        supervisor: int,
        opening: Opening,
    ) -> NoReturn:
        """In the forked process: release what belongs to the supervisor, and serve."""
        code = 1
        try:
            self._signals.uninstall(signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._events.close_inherited()
            for channel in (ours, *(worker.channel for worker in self._workers)):
                channel.close()
            context = WorkerContext(
                self._settings,
                self._listeners,
                self._private,
                theirs,
                snapshot,
                self._status,
                supervisor,
                self._cluster_id,
                opening,
            )
            code = run_worker(context)
        except BaseException:
            log.exception("a worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # the frames above belong to the supervisor


def _join_other_threads() -> None:
    """Wait until this thread is the only one: a forked lock of another thread stays locked.

    The threads of a MongoDB client, closed after the start of private servers, end with a delay.
    """
    deadline = time.monotonic() + _THREAD_SECONDS
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
