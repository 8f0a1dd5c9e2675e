"""A TCP proxy that injects faults, for some of its clients or for all.

It identifies the process of a connection by its port. So all services use the same address, which
identifies a cache node for them, and yet one service alone can be cut off.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

_CHUNK = 65536  # held in each direction, at most
_CONNECTIONS = 512

# A reply that no Memcached sends. One that looked valid would be a wrong value, not garbage.
_GARBAGE = [
    b"\r\n",
    b"\r\n\r\n",
    b"VALUE\r\n",
    b"VALUE x 0 1 -\r\nEN",
    b"\x00\xff\xfe\r\n",
    b"220 hello\r\n",
]


# From the ports of the client and of the proxy to the name of the client.
IdentifyClient = Callable[[int, int], str | None]


@dataclass(frozen=True, slots=True)
class LinkFault:
    """A fault, as it affects the bytes of a connection."""

    kind: Literal["pass", "cut", "freeze", "garbage", "repeat"] = "pass"
    delay: float = 0.0  # seconds, each way


NO_FAULT = LinkFault()
CUT = LinkFault("cut")  # connections are closed, new ones at once
FROZEN = LinkFault("freeze")  # bytes are held in both directions, and delivered later
GARBAGE = LinkFault("garbage")  # every reply is nonsense
REPEATED = LinkFault("repeat")  # the first line of some replies is sent twice
_REPEATED_SHARE = 0.2


class FaultProxy:
    """A proxy before one server. `async with` opens it, and closes everything that it holds."""

    def __init__(
        self, target: str, client_name: IdentifyClient = lambda _port, _own: None, *, seed: int = 0
    ) -> None:
        """`target` is host:port. `client_name` returns the name of the client, if known."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._identify_client = client_name
        self._chance = random.Random(seed)
        self._faults: dict[str | None, LinkFault] = {}
        self._changed = asyncio.Condition()
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._server: asyncio.Server | None = None
        self._request_without_response: bytes | None = None
        self.dropped = 0  # responses
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._server:
            self._server.close()
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def set(self, fault: LinkFault, client_name: str | None = None) -> None:
        """Set the fault of one client or, with None, of all clients without their own."""
        if fault == NO_FAULT:
            self._faults.pop(client_name, None)
        else:
            self._faults[client_name] = fault
        for link in self._links.values():
            now = self.fault_of(link.client_name).kind
            if now == "cut" or (now == "garbage") != link.is_garbled:
                link.abort()
        async with self._changed:
            self._changed.notify_all()

    def drop_response_to(self, request: bytes) -> None:
        """Forward the next request with these bytes; close its connection instead of responding.

        The bytes must arrive in one piece, like those of a small request.
        """
        self._request_without_response = request

    def fault_of(self, client_name: str | None) -> LinkFault:
        """Return the current fault of a client."""
        return self._faults.get(client_name) or self._faults.get(None) or NO_FAULT

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = [writer.get_extra_info(end)[1] for end in ("peername", "sockname")]
        link = _Link(self._identify_client(*ports), writer)
        if self.fault_of(link.client_name).kind == "cut" or len(self._links) >= _CONNECTIONS:
            link.abort()
            return
        task = asyncio.current_task()
        assert task
        self._links[task] = link
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(link, reader)
        finally:
            del self._links[task]
            link.abort()

    async def _carry(self, link: "_Link", reader: asyncio.StreamReader) -> None:
        if self.fault_of(link.client_name).kind == "garbage":
            link.is_garbled = True
            await self._talk_garbage(reader, link.client)
            return
        there, link.server = await asyncio.open_connection(*self._target, limit=_CHUNK)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pump(link, reader, link.server))
            both.create_task(self._pump(link, there, link.client))

    async def _pump(
        self, link: "_Link", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Copy bytes in one direction; bytes held when the sender disconnects still arrive."""
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if delay := self.fault_of(link.client_name).delay:
                    await asyncio.sleep(delay)
                if self.fault_of(link.client_name).kind == "freeze":
                    await self._thaw(link)
                if self._is_dropped(link, chunk, is_request=writer is link.server):
                    link.abort()
                    return
                if writer is link.client and self._is_repeated(link):
                    chunk = chunk[: chunk.find(b"\n") + 1] + chunk
                writer.write(chunk)
                await writer.drain()
        writer.close()

    def _is_repeated(self, link: "_Link") -> bool:
        is_faulty = self.fault_of(link.client_name).kind == "repeat"
        return is_faulty and self._chance.random() < _REPEATED_SHARE

    def _is_dropped(self, link: "_Link", chunk: bytes, *, is_request: bool) -> bool:
        if not is_request:
            self.dropped += link.drops_response
            return link.drops_response
        if self._request_without_response is not None and self._request_without_response in chunk:
            self._request_without_response, link.drops_response = None, True
        return False

    async def _thaw(self, link: "_Link") -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.fault_of(link.client_name).kind != "freeze")

    async def _talk_garbage(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while await reader.read(_CHUNK):
            writer.write(self._chance.choice(_GARBAGE))
            await writer.drain()


class _Link:
    """One connection through the proxy."""

    def __init__(self, client_name: str | None, client: asyncio.StreamWriter) -> None:
        self.client_name = client_name
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.is_garbled = False
        self.drops_response = False

    def abort(self) -> None:
        """Close both ends, whatever is in progress."""
        for writer in (self.client, self.server):
            if writer:
                writer.transport.abort()
