"""A worker: a process that serves requests until the supervisor stops it, and then drains."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from tornado_members import http1
from tornado_members.admin.aggregation import SharedSnapshot, publish_snapshots
from tornado_members.admin.status import open_process_status
from tornado_members.app import make_app
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import OperatorError, Problem
from tornado_members.services import Opening, Services, open_services
from tornado_members.serving.channel import FAILED, READY, REPLACE, STOP, Channel
from tornado_members.serving.garbage_collection import tune_garbage_collection
from tornado_members.serving.server import DrainingHTTPServer, loop_factory, make_server
from tornado_members.serving.sockets import Listeners
from tornado_members.serving.tls import tls_context
from tornado_members.settings import Settings
from tornado_members.telemetry.logs import configure_logging

log = getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # prctl(2)
# For which a stop waits for connections without a request: a busy client sends one sooner.
_IDLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The objects that a worker receives from the supervisor that forks it."""

    settings: Settings
    listeners: Listeners
    private: PrivateServers
    channel: Channel
    snapshot: SharedSnapshot  # of its own status, which it writes
    status: SharedSnapshot  # of the whole service, which the supervisor writes
    supervisor: int  # process id
    cluster_id: str | None  # of the database that the other workers use; None for the first worker
    opening: Opening


def run_worker(context: WorkerContext) -> int:
    """Serve until the supervisor stops this forked process; return the exit code."""
    _die_with_supervisor(context.supervisor)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to the whole group
        signal.signal(number, signal.SIG_IGN)
    log_settings = context.settings.log
    configure_logging(log_settings.level, log_settings.format, sys.stdout)
    try:
        with asyncio.Runner(loop_factory=loop_factory(context.settings.server.transport)) as runner:
            runner.run(_serve(context))
    except (OperatorError, Problem) as error:
        context.channel.send(FAILED + str(error).encode("utf-8", "replace"))
        return 2
    return 0


def _die_with_supervisor(supervisor: int) -> None:
    """Make the kernel kill this process when the supervisor ends, for any reason.

    On other systems than Linux the closed channel stops the worker.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it has ended already
        os._exit(1)


async def _serve(context: WorkerContext) -> None:
    settings = context.settings
    addresses = context.private.addresses_for(settings)
    async with (
        open_services(
            settings, *addresses, cluster_id=context.cluster_id, opening=context.opening
        ) as services,
        open_process_status(services) as status,
    ):
        tls = tls_context(settings.server.tls)
        limits, transport = settings.server.limits, settings.server.transport
        server = make_server(
            make_app(services, context.status.read),
            limits,
            tls,
            transport=transport,
            proxies=services.proxies,
            cors=services.cors,
        )
        signals = ShutdownSignals(context.channel)  # before this line SIGTERM ends the process
        server.add_sockets(context.listeners.sockets)
        context.channel.send(READY + services.cluster_id.encode())
        tune_garbage_collection()
        async with publish_snapshots(context.snapshot, status):
            order = await signals.first
            if order in (STOP, REPLACE):
                status.health.draining = True
                await _drain(settings, services, server, signals, whole=order == STOP)
            else:
                log.error("the supervisor has ended")
            server.stop()
            await server.close_all_connections()


async def _drain(
    settings: Settings,
    services: Services,
    server: http1.HTTPServer | DrainingHTTPServer,
    signals: "ShutdownSignals",
    *,
    whole: bool,
) -> None:
    """Announce the close to clients, and let requests complete.

    If the `whole` service stops, it reports that it is not ready and accepts connections for
    another server.unready_seconds, in which load balancers detect the change.
    """
    server.announce_close()
    seconds = settings.server.drain_seconds
    if whole:
        await _wait(signals.force.wait(), settings.server.unready_seconds)
    server.stop()
    services.feed.drain()  # their clients reconnect to another worker or service
    idle_seconds = _IDLE_SECONDS if whole else seconds
    begun = asyncio.get_running_loop().time()
    interrupted = await server.drain(seconds, idle_seconds=idle_seconds, force=signals.force)
    if interrupted:
        log.warning("%d connections were closed: their requests did not end in time", interrupted)
    # Wait also for requests whose client has disconnected.
    left = begun + seconds - asyncio.get_running_loop().time()
    if not await _wait(services.requests.idle.wait(), max(left, 0.0)):
        log.warning("%d requests did not end in time", services.requests.in_flight)


async def _wait(condition: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Return True if the condition was met within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await condition
    except TimeoutError:
        return False
    return True


class ShutdownSignals:
    """Stop orders of the supervisor, and SIGTERM.

    A second one from the same source forces the stop. One from each source is a single stop: a
    service manager that signals the whole process group, as systemd does by default, makes the
    supervisor send its own order as well.
    """

    def __init__(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[bytes] = loop.create_future()  # STOP, REPLACE, or empty
        self.force = asyncio.Event()
        self._sources: set[str] = set()
        self._channel = channel
        self._remove_reader: Callable[[], object] = lambda: loop.remove_reader(channel)
        loop.add_reader(channel, self._read_channel)
        loop.add_signal_handler(signal.SIGTERM, self._record, REPLACE, "signal")

    def _read_channel(self) -> None:
        order = self._channel.receive()
        if order is None:
            return
        if not order:
            self._remove_reader()
        self._record(order, "supervisor")

    def _record(self, order: bytes, source: str) -> None:
        if source in self._sources:
            self.force.set()
        self._sources.add(source)
        if not self.first.done():
            self.first.set_result(order)
