"""Where the supervisor waits for news, and answers probes meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from tornado.httpserver import HTTPServer

from tornado_members.admin.aggregation import WorkerAggregator
from tornado_members.admin.app import make_admin_app
from tornado_members.serving.sockets import Listening


class _Source(Protocol):
    def fileno(self) -> int:
        """What can be read when there is news."""


class Watch:
    """An event loop that runs only while the supervisor has nothing else to do.

    It never runs while a worker is forked, and it starts no thread: both would be inherited.
    """

    def __init__(self, board: WorkerAggregator, listening: Listening) -> None:
        self._listening = listening
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_AtOnce())
        self._news = asyncio.Event()
        self._server = HTTPServer(make_admin_app(board), idle_connection_timeout=60)
        self._loop.run_until_complete(self._listen())

    async def _listen(self) -> None:
        self._server.add_sockets(self._listening.sockets)

    def add(self, source: _Source, heard: Callable[[], object] | None = None) -> None:
        """Wake up when it can be read, and call `heard`."""
        self._loop.add_reader(source, self._wake, heard)

    def remove(self, source: _Source) -> None:
        """Do not wait for it any more."""
        self._loop.remove_reader(source)

    def wait(self, seconds: float) -> None:
        """Until there is news, and at most so long."""
        self._loop.run_until_complete(self._wait(seconds))

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        finally:
            self._news.clear()

    def _wake(self, heard: Callable[[], object] | None) -> None:
        self._news.set()
        if heard:
            heard()

    def forget(self) -> None:
        """In a worker: let go of what was inherited. The loop is still the supervisor's."""
        for listener in self._listening.sockets:
            listener.close()
        for connection in self._server._connections:
            if not connection.stream.closed():
                connection.stream.socket.close()

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.stop()
        self._loop.run_until_complete(self._server.close_all_connections())
        self._loop.close()


class _AtOnce(ThreadPoolExecutor):
    """In the place of a thread pool: does what it is given before it returns."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do it."""
        done: Future[Any] = Future()
        try:
            done.set_result(task(*args, **kwargs))
        except Exception as error:  # noqa: BLE001
            done.set_exception(error)
        return done
