"""The supervisor's wait for events, during which it serves the admin listener."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from tornado.httpserver import HTTPServer

from tornado_members.admin.app import make_admin_app
from tornado_members.admin.status import ServiceStatus
from tornado_members.http.allowed_hosts import AllowedHosts
from tornado_members.serving.sockets import Listeners


class _Source(Protocol):
    def fileno(self) -> int:
        """Return the descriptor, which is readable when an event has arrived."""


class EventWait:
    """An event loop that runs only while the supervisor waits.

    It does not run while a worker is forked and it starts no thread: both would be inherited.
    """

    def __init__(self, status: ServiceStatus, listening: Listeners, hosts: AllowedHosts) -> None:
        """`hosts` are those that the admin listener answers."""
        self._listening = listening
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_InlineExecutor())
        self._event = asyncio.Event()
        self._server = HTTPServer(make_admin_app(status, hosts), idle_connection_timeout=60)
        self._loop.run_until_complete(self._listen())

    async def _listen(self) -> None:
        self._server.add_sockets(self._listening.sockets)

    def add(self, source: _Source, callback: Callable[[], object] | None = None) -> None:
        """Return from wait() when the source is readable, after calling `callback`."""
        self._loop.add_reader(source, self._wake, callback)

    def remove(self, source: _Source) -> None:
        """Stop waiting for the source."""
        self._loop.remove_reader(source)

    def wait(self, seconds: float) -> None:
        """Wait for an event, for at most `seconds`."""
        self._loop.run_until_complete(self._wait(seconds))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()

    def _wake(self, callback: Callable[[], object] | None) -> None:
        self._event.set()
        if callback:
            callback()

    def close_inherited(self) -> None:
        """In a worker: close the inherited sockets. The loop itself belongs to the supervisor."""
        for listener in self._listening.sockets:
            listener.close()
        for connection in self._server._connections:
            if not connection.stream.closed():
                connection.stream.socket.close()

    def close(self) -> None:
        """Close the admin listener and its connections."""
        self._server.stop()
        self._loop.run_until_complete(self._server.close_all_connections())
        self._loop.close()


class _InlineExecutor(ThreadPoolExecutor):
    """An executor without threads: runs each task before submit() returns."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a task."""
        done: Future[Any] = Future()
        try:
            done.set_result(task(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # the future raises it
            done.set_exception(error)
        return done
