"""The walk of a request through the files of the package: how often a reader changes the file.

It serves one request of each kind, with a private MongoDB and Memcached, and counts the Python
calls in the thread of the event loop that go from one file of the package to another.
"""

import asyncio
import re
import socket
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import tornado_members
from tests.support.tokens import AUDIENCE, ISSUER, make_token, public_jwk
from tornado_members.app import make_app
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.services import open_services
from tornado_members.serving.server import loop_factory, make_server
from tornado_members.settings import Settings

_PACKAGE: Final = f"{Path(tornado_members.__file__).parent}/"
_ATTEMPTS: Final = 7  # of each kind; the shortest counts, without timers of the service
_START_SECONDS: Final = 30
_PAUSE: Final = 0.02  # seconds, in which the work after a response ends


class Kind(NamedTuple):
    """A kind of request."""

    name: str
    method: str
    headers: str = ""
    is_cached: bool = True


KINDS: Final = (
    Kind("fast path", "GET"),
    Kind("handler", "GET", "If-Match: *\r\n"),
    Kind("miss", "GET", is_cached=False),
    Kind("write", "PUT"),
)


class Call(NamedTuple):
    """A call of a function of the package."""

    file: str  # relative to the package
    function: str


class Recorder:
    """Records the calls of functions of the package in this thread."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __enter__(self) -> "Recorder":
        sys.setprofile(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _record(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE):
            self.calls.append(Call(code.co_filename.removeprefix(_PACKAGE), code.co_qualname))


def changes(calls: Sequence[Call]) -> int:
    """Return how often the file changes from one call to the next."""
    return sum(one.file != other.file for one, other in pairwise(calls))


def show(calls: Sequence[Call]) -> str:
    """Return one line per visit of a file, with the functions that are called there."""
    lines: list[str] = []
    before = ""
    for number, call in enumerate(calls):
        if call.file != before:
            lines.append(f"{call.file}: {call.function}")
        elif not (number and calls[number - 1] == call):
            lines[-1] += f", {call.function}"
        before = call.file
    return "\n".join(f"{number:4} {line}" for number, line in enumerate(lines))


async def walk(settings: Settings, servers: PrivateServers) -> dict[str, list[Call]]:
    """Return the calls for one request of each kind."""
    async with _serving(settings, servers) as port:
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        first, *others = [await client.create() for _ in range(_ATTEMPTS + 1)]
        await client.await_hit(first)
        found = {}
        for kind in KINDS:
            ids = [first] * _ATTEMPTS if kind.is_cached else others
            await client.send(kind, first)  # so that caches and lazy imports are filled
            found[kind.name] = min(
                [await client.walk(kind, member_id) for member_id in ids], key=changes
            )
        client.close()
        return found


class Client:
    """Sends requests on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._token = make_token(scope="members:read members:write")
        self._written = 0

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def create(self) -> int:
        """Create a member, and return its id."""
        response = await self._send("POST", "/members", "")
        return int(response.partition("Location: /members/")[2].split()[0])

    async def walk(self, kind: Kind, member_id: int) -> list[Call]:
        """Return the calls of a request, from its first byte to its end."""
        await asyncio.sleep(_PAUSE)
        with Recorder() as recorder:
            await self.send(kind, member_id)
            await asyncio.sleep(_PAUSE)
        return recorder.calls

    async def await_hit(self, member_id: int) -> None:
        """Read a member until the cache serves it: a new node is not read at first."""
        async with asyncio.timeout(_START_SECONDS):
            while "; hit" not in await self._send("GET", f"/members/{member_id}", ""):
                await asyncio.sleep(_PAUSE)

    async def send(self, kind: Kind, member_id: int) -> None:
        """Send a request and read its response."""
        await self._send(kind.method, f"/members/{member_id}", kind.headers)

    async def _send(self, method: str, path: str, headers: str) -> str:
        """Return the head of the response."""
        body = ""
        if method != "GET":
            self._written += 1
            body = f'{{"name": "Ada {self._written}"}}'
            headers += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
            f"Authorization: Bearer {self._token}\r\n{headers}\r\n"
        )
        self._writer.write(f"{head}{body}".encode())
        response = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        if not response.startswith("HTTP/1.1 20"):
            raise SystemExit(f"walk: the response to {method} {path} is: {response}")
        length = re.search("Content-Length: ([0-9]+)", response)
        await self._reader.readexactly(int(length[1]) if length else 0)
        return response


@asynccontextmanager
async def _serving(settings: Settings, servers: PrivateServers) -> AsyncIterator[int]:
    """Serve in this event loop, and yield the port."""
    async with open_services(settings, servers.mongodb_uri, servers.cache_servers) as services:
        server = make_server(make_app(services), transport=settings.server.transport)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        server.add_sockets([listener])
        try:
            yield listener.getsockname()[1]
        finally:
            server.stop()
            await server.close_all_connections()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts."""
    options = _parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="tornado-members-walk-") as name:
        issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": {"keys": [public_jwk("RS256")]}}
        settings = Settings.model_validate(
            {
                "data_dir": name,
                "server": {"transport": options.transport},
                "auth": {"issuers": [issuer]},
            }
        )
        with (
            PrivateServers(Path(name), die_with_parent=True) as servers,
            asyncio.Runner(loop_factory=loop_factory(settings.server.transport)) as runner,
        ):
            found = runner.run(walk(settings, servers))
    for kind, calls in found.items():
        print(f"{kind}: {changes(calls)} changes of the file, {len(calls)} calls")
        if kind in options.show:
            print(show(calls))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m tools.walk", description=__doc__)
    parser.add_argument(
        "--show",
        nargs="*",
        default=[],
        choices=[request.name for request in KINDS],
        help="print the walks",
    )
    parser.add_argument("--transport", choices=("http1", "tornado"), default="http1")
    return parser


if __name__ == "__main__":
    sys.exit(main())
