"""A server that sends one response to every request: the lower bound of any server in Python."""

import asyncio
import sys

import uvloop
from httptools import HttpRequestParser

BODY = (
    b'{"memberId":42,"name":"Ada Lovelace 42","email":"ada.m42@example.org",'
    b'"phone":"+1-555-0000000000"}'
)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class Bare(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.parser = HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Ignore the path, which every server has to read."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Ignore the header, which every server has to read."""

    def on_message_complete(self) -> None:
        """Respond."""
        self.transport.write(RESPONSE)


async def main() -> None:
    """Serve until it is killed."""
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
