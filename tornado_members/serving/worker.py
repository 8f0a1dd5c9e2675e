"""A worker: a process that serves until it is told to stop, and lets requests end before."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from tornado_members.admin.aggregation import SharedSnapshot, publish_snapshots
from tornado_members.admin.status import open_process_status
from tornado_members.app import make_app
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import OperatorError, Problem
from tornado_members.services import Services, open_services
from tornado_members.serving.channel import FAILED, READY, REPLACE, STOP, Channel
from tornado_members.serving.server import MembersServer, loop_factory, make_server
from tornado_members.serving.sockets import Listening
from tornado_members.serving.tls import tls_context
from tornado_members.settings import Settings
from tornado_members.telemetry.logs import configure_logging
from tornado_members.transport.server import FastServer

log = getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # prctl(2)
# At a stop, silent connections are waited for so long; whoever is about to ask does it sooner.
_SILENT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a worker is given by the supervisor that forks it."""

    settings: Settings
    listening: Listening
    private: PrivateServers
    channel: Channel
    page: SharedSnapshot  # on which it says how it is
    supervisor: int  # process id


def run_worker(work: Work) -> int:
    """Serve to the end; returns the exit code. The process has just been forked."""
    _die_with(work.supervisor)
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to everybody at once
        signal.signal(number, signal.SIG_IGN)
    log_settings = work.settings.log
    configure_logging(log_settings.level, log_settings.format, sys.stdout)
    try:
        with asyncio.Runner(loop_factory=loop_factory(work.settings.server.transport)) as runner:
            runner.run(_serve(work))
    except (OperatorError, Problem) as error:
        work.channel.tell(FAILED + str(error).encode("utf-8", "replace"))
        return 2
    return 0


def _die_with(supervisor: int) -> None:
    """Be killed by the kernel as soon as the supervisor is not there any more, however it ended.

    Where there is no such call (it is Linux's), the end of the channel says so, too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it had ended before
        os._exit(1)


async def _serve(work: Work) -> None:
    settings = work.settings
    addresses = work.private.addresses_for(settings)
    async with (
        open_services(settings, *addresses) as services,
        open_process_status(services) as status,
    ):
        tls = tls_context(settings.server.tls)
        limits, transport = settings.server.limits, settings.server.transport
        server = make_server(make_app(services), limits, tls, transport=transport)
        orders = _Orders(work.channel)  # up to here, SIGTERM simply ended it
        server.add_sockets(work.listening.sockets)
        work.channel.tell(READY)
        async with publish_snapshots(work.page, status):
            order = await orders.first
            if order in (STOP, REPLACE):
                status.health.draining = True
                await _drain(settings, services, server, orders, whole=order == STOP)
            else:
                log.error("the supervisor has gone")
            server.stop()
            await server.close_all_connections()


async def _drain(
    settings: Settings,
    services: Services,
    server: MembersServer | FastServer,
    orders: "_Orders",
    *,
    whole: bool,
) -> None:
    """Serve what has been asked, and say everywhere that this is the end.

    If the `whole` service stops, it says that it is not ready, and goes on accepting for
    unready_seconds, in which whoever sends requests here may learn it.
    """
    server.say_goodbye()
    seconds = settings.server.drain_seconds
    if whole:
        await _wait(orders.hurry.wait(), settings.server.unready_seconds)
    server.stop()
    silent_seconds = _SILENT_SECONDS if whole else seconds
    begun = asyncio.get_running_loop().time()
    cut_off = await server.drain(seconds, silent_seconds=silent_seconds, hurry=orders.hurry)
    if cut_off:
        log.warning("%d connections were cut off: their requests did not end in time", cut_off)
    # Also those whose client has gone.
    left = begun + seconds - asyncio.get_running_loop().time()
    if not await _wait(services.requests.idle.wait(), max(left, 0.0)):
        log.warning("%d requests did not end in time", services.requests.in_flight)


async def _wait(condition: Coroutine[Any, Any, object], seconds: float) -> bool:
    """Whether it came true within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await condition
    except TimeoutError:
        return False
    return True


class _Orders:
    """What the worker is told: by the supervisor, or by SIGTERM. Told twice by one, it hurries.

    Once by each is one stop: who signals a whole group of processes (systemd does, by default)
    has the supervisor tell it as well.
    """

    def __init__(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[bytes] = loop.create_future()
        self.hurry = asyncio.Event()
        self._told_by: set[str] = set()
        self._channel = channel
        self._forget: Callable[[], object] = lambda: loop.remove_reader(channel)
        loop.add_reader(channel, self._hear)
        loop.add_signal_handler(signal.SIGTERM, self._take, REPLACE, "signal")

    def _hear(self) -> None:
        order = self._channel.hear()
        if order is None:
            return
        if not order:
            self._forget()
        self._take(order, "supervisor")

    def _take(self, order: bytes, teller: str) -> None:
        if teller in self._told_by:
            self.hurry.set()
        self._told_by.add(teller)
        if not self.first.done():
            self.first.set_result(order)
