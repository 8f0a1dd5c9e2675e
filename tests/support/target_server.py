"""An HTTP server in a separate process, for tests that attack it and measure its costs."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import uvloop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tornado_members.http1 import HTTPServer, Limits

BODY_BYTES = 1024 * 1024
BUDGET_BYTES = 16 * 1024 * 1024
_LARGE = bytes(1_500_000)


class Small(RequestHandler):
    """Responds at once, and reads any body."""

    def prepare(self) -> None:
        self.request._parse_body = lambda: None  # type: ignore[method-assign]

    def get(self) -> None:
        self.finish(b"small")

    def put(self) -> None:
        self.finish(str(len(self.request.body)))


class Large(RequestHandler):
    """Responds with bytes that all clients share."""

    def get(self) -> None:
        self.finish(_LARGE)


class TargetServer:
    """The process of the server."""

    def __init__(self, process: "Popen[str]") -> None:
        assert process.stdout
        self.address = ("127.0.0.1", int(process.stdout.readline()))
        self._process = psutil.Process(process.pid)

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        return int(self._process.memory_info().rss)


@contextmanager
def target_server() -> Iterator[TargetServer]:
    """Run the server for the block."""
    with Popen(
        [sys.executable, "-m", "tests.support.target_server"],
        stdout=PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield TargetServer(process)
        finally:
            process.kill()


async def main() -> None:
    """Serve until the process is killed."""
    limits = Limits(
        body_bytes=BODY_BYTES, body_buffer_bytes=BUDGET_BYTES, response_buffer_bytes=BUDGET_BYTES
    )
    app = Application([("/large", Large), (".*", Small)], log_function=lambda _: None)
    server = HTTPServer(app, limits=limits)
    listeners = bind_sockets(0, "127.0.0.1")
    server.add_sockets(listeners)
    sys.stdout.write(f"{listeners[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
