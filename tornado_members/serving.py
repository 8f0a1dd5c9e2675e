"""Sockets, signals and a stop that lets requests end: the service as a process."""

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from errno import EADDRINUSE
from logging import getLogger
from pathlib import Path
from types import FrameType

import psutil
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.netutil import bind_sockets

from tornado_members import __version__
from tornado_members.admin import make_admin_app
from tornado_members.app import make_app, open_services
from tornado_members.embedded.private_servers import PrivateServers, servers_for
from tornado_members.embedded.programs import EmbeddedError
from tornado_members.errors import OperatorError
from tornado_members.handlers.refusals import render_refusal
from tornado_members.monitoring.board import OneProcess
from tornado_members.settings import Admin, Server, Settings
from tornado_members.settings_file import DEFAULT_FILE
from tornado_members.telemetry.logs import fields, writes_json
from tornado_members.telemetry.requests import RequestLog
from tornado_members.transport.limits import Limits, most_connections
from tornado_members.transport.loops import find_fast_loop
from tornado_members.transport.server import FastServer

log = getLogger(__name__)

_SUPERVISION_SECONDS = 0.5


class ServingError(OperatorError):
    """The service cannot listen where it should. The text says where, and why."""


def run(settings: Settings, config: Path) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises OperatorError of some kind."""
    sockets = _bind("server", settings.server)
    admin_sockets = _bind("admin", settings.admin)
    # Until the loop takes the signals over, they must unwind the stack: it stops what was started.
    ending = _ending_signals()
    for number in ending:
        signal.signal(number, _exit)
    with servers_for(settings) as private:
        try:
            with asyncio.Runner(loop_factory=_loop_factory(settings.server)) as runner:
                runner.run(_serve(settings, config, sockets, admin_sockets, private))
        finally:
            for number in ending:
                signal.signal(number, signal.SIG_IGN)  # stopping is under way


async def _serve(
    settings: Settings,
    config: Path,
    sockets: list[socket.socket],
    admin_sockets: list[socket.socket],
    private: PrivateServers,
) -> None:
    stop = asyncio.Event()
    for number in _ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_services(settings, *private.addresses_for(settings)) as services:
        server = make_server(make_app(services), settings.server)
        server.add_sockets(sockets)
        admin = HTTPServer(make_admin_app(OneProcess(services.health, services.metrics)))
        admin.add_sockets(admin_sockets)
        _greet(settings, config, sockets, admin_sockets, private)
        supervision = asyncio.create_task(_supervise(private, stop.is_set))
        await stop.wait()
        log.info("stopping")
        supervision.cancel()
        services.health.draining = True
        await _drain(server, services.requests, settings.server.drain_seconds)
        admin.stop()
        await admin.close_all_connections()


async def _supervise(private: PrivateServers, stopping: Callable[[], bool]) -> None:
    """A private server that dies is started again."""
    pause = _SUPERVISION_SECONDS
    while not stopping():
        await asyncio.sleep(pause)
        try:
            for name in await asyncio.to_thread(private.revive):
                log.warning("the private %s had died, and was started again", name)
            pause = _SUPERVISION_SECONDS
        except (EmbeddedError, OSError, psutil.Error) as error:
            pause = min(pause * 2, 30)
            log.error("%s; trying again in %d seconds", error, pause)


async def _drain(server: HTTPServer | FastServer, requests: RequestLog, seconds: float) -> None:
    """Let requests in flight end, for at most so long."""
    if isinstance(server, FastServer):
        if broken_off := await server.drain(seconds):
            log.warning("%d connections were broken off", broken_off)
        return
    server.stop()
    try:
        async with asyncio.timeout(seconds):
            await requests.idle.wait()
    except TimeoutError:
        log.warning("%d requests did not end in time", requests.in_flight)
    await server.close_all_connections()


def make_server(
    application: HTTPServerConnectionDelegate, server: Server
) -> HTTPServer | FastServer:
    """The HTTP server; it leaves the limit on bodies to the application, which answers for it."""
    if server.transport == "fast":
        limits = Limits(connections=most_connections(), body_bytes=sys.maxsize)
        return FastServer(application, limits=limits, render=render_refusal)
    return HTTPServer(application, max_body_size=sys.maxsize)


def _loop_factory(server: Server) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None stands for asyncio's own."""
    return find_fast_loop() if server.transport == "fast" else None


def _bind(section: str, where: Server | Admin) -> list[socket.socket]:
    """Listen where a section of the settings says. Raises ServingError."""
    try:
        return bind_sockets(where.port, where.host)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        taken = getattr(error, "errno", None) == EADDRINUSE
        another = f"MEMBERS_{section.upper()}__PORT={where.port % 64_000 + 1000}"
        hint = f". Another port: {another} scripts/serve" if taken else ""
        raise ServingError(
            f"cannot listen on {where.host}:{where.port} ({section}.host, {section}.port): "
            f"{reason}{hint}"
        ) from None


def _ending_signals() -> list[signal.Signals]:
    """Those that tell it to stop: a closed terminal does too, unless nohup says otherwise."""
    hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if hangup_ignored else [signal.SIGHUP])]


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _greet(
    settings: Settings,
    config: Path,
    sockets: list[socket.socket],
    admin_sockets: list[socket.socket],
    private: PrivateServers,
) -> None:
    """Say where it listens: a line among the others for machines, and more for people."""
    url, admin_url = _url(sockets), _url(admin_sockets)
    if writes_json():
        words = f"The members service listens on {url}"
        log.info("%s", words, extra=fields(url=url, admin_url=admin_url, version=__version__))
    else:
        print(_welcome(settings, config, url, admin_url, private), flush=True)


def _url(sockets: list[socket.socket]) -> str:
    host, port = sockets[0].getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _welcome(
    settings: Settings, config: Path, url: str, admin_url: str, private: PrivateServers
) -> str:
    lines = [
        f"The members service listens on {url}",
        f"  health, metrics    {admin_url}/readyz, {admin_url}/metrics",
    ]
    if private.ports.mongodb:
        lines.append(f"  private MongoDB    127.0.0.1:{private.ports.mongodb}")
    if private.ports.memcached:
        lines.append(f"  private Memcached  127.0.0.1:{private.ports.memcached}")
    own_keys = settings.own_jwks_file()
    if own_keys and own_keys.with_name("signing.pem").exists():
        lines += [
            "",
            "Try it in another shell:",
            f"  TOKEN=$({_token_command(config)} --rights 3)",
            f'  curl -i -H "Authorization: Bearer $TOKEN" -X PUT {url}/members \\',
            "       -H 'Content-Type: application/json' -d '{\"name\": \"Ada Lovelace\"}'",
            f'  curl -i -H "Authorization: Bearer $TOKEN" {url}/members/1',
        ]
    return "\n".join([*lines, "", "Ctrl-C stops it, and everything that it started."])


def _token_command(config: Path) -> str:
    """How scripts/token is called from here, with the same settings."""
    script = str(Path(__file__).parent.parent / "scripts" / "token")
    near = os.path.relpath(script)
    command = shlex.quote(near if "/" in near and not near.startswith("../..") else script)
    if data_dir := os.environ.get("MEMBERS_DATA_DIR"):
        command = f"MEMBERS_DATA_DIR={shlex.quote(data_dir)} {command}"
    return command if config == DEFAULT_FILE else f"{command} --config {shlex.quote(str(config))}"
