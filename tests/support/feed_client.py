"""A client of the change feed: one request on one connection, and its events."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """An event; `arrived` is in seconds of the event loop's clock."""

    id: str
    kind: str
    data: Any
    arrived: float = field(default=0.0, compare=False)


class StreamEnded(Exception):
    """The service ended the stream, or the connection broke."""


class FeedStream:
    """An open response of the feed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # by lower-case names
        self.comments = 0
        self.retry: int | None = None
        self.is_complete = False  # the last chunk has arrived
        self._reader = reader
        self.writer = writer
        self._text = b""

    async def read_head(self) -> None:
        """Read the status and the headers."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, OSError) as error:
            raise StreamEnded from error
        first, *lines = head.rstrip().split("\r\n")
        self.status = int(first.split(" ")[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    async def problem(self) -> dict[str, Any]:
        """Return the problem in the body."""
        length = int(self.headers["content-length"])
        return dict(json.loads(await self._reader.readexactly(length)))

    async def event(self, seconds: float = 60) -> Event:
        """Return the next event. Raises StreamEnded, and TimeoutError."""
        async with asyncio.timeout(seconds):
            while True:
                block = await self._block()
                event = self._parse(block)
                if event is not None:
                    return event

    async def events(self, count: int, seconds: float = 60) -> list[Event]:
        """Return the next events."""
        return [await self.event(seconds) for _ in range(count)]

    async def silence(self, seconds: float) -> None:
        """Assert that no event arrives for some seconds."""
        with suppress(TimeoutError):
            event = await self.event(seconds)
            raise AssertionError(f"{event} arrived")

    async def end(self, seconds: float = 60) -> list[Event]:
        """Return the events up to the end of the stream."""
        found = []
        with suppress(StreamEnded):
            while True:
                found.append(await self.event(seconds))
        return found

    @property
    def is_ndjson(self) -> bool:
        """True if the stream is application/x-ndjson."""
        return "ndjson" in self.headers["content-type"]

    async def _block(self) -> str:
        mark = b"\n" if self.is_ndjson else b"\n\n"
        while mark not in self._text:
            self._text += await self._chunk()
        block, _, self._text = self._text.partition(mark)
        return block.decode()

    async def _chunk(self) -> bytes:
        try:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise StreamEnded from error
        if size == 0:
            self.is_complete = True
            raise StreamEnded
        return data[:-2]

    def _parse(self, block: str) -> Event | None:
        now = asyncio.get_running_loop().time()
        if self.is_ndjson:
            self.comments += not block
            line = json.loads(block) if block else None
            return line and Event(line["id"], line["event"], line["data"], now)
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            self.comments += not name
            fields[name] = value.removeprefix(" ")
        if "retry" in fields:
            self.retry = int(fields["retry"])
        if "data" not in fields:
            return None
        return Event(fields["id"], fields["event"], json.loads(fields["data"]), now)


@asynccontextmanager
async def following(
    address: tuple[str, int],
    token: str,
    query: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    ndjson: bool = False,
) -> AsyncIterator[FeedStream]:
    """Open a stream, and read its head."""
    host, port = address[:2]
    reader, writer = await asyncio.open_connection(host, port)
    accept = "application/x-ndjson" if ndjson else "text/event-stream"
    lines = {"Host": f"{host}:{port}", "Authorization": f"Bearer {token}", "Accept": accept}
    sent = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **(headers or {})}.items())
    stream = FeedStream(reader, writer)
    try:
        writer.write(f"{method} /members/changes{query} HTTP/1.1\r\n{sent}\r\n".encode())
        await stream.read_head()
        yield stream
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
