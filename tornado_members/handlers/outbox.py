"""What is to be sent to a reader who may read nothing before he has sent everything."""

import asyncio
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from typing import IO

_IN_MEMORY = 256 * 1024  # bytes
_PIECE = 65536  # bytes


class Outbox:
    """Bytes in their order: a few in memory, the others in a temporary file without a name.

    Who sends a large import and reads its results afterwards must not be made to wait, for neither
    side would ever go on; and must not fill the memory.
    """

    def __init__(self, send: Callable[[bytes], Awaitable[None]], limit: int) -> None:
        """`send` may take its time; `limit` is the number of bytes that the file may have."""
        self._send = send
        self._limit = limit
        self._near: deque[bytes] = deque()
        self._near_size = 0
        self._file: IO[bytes] | None = None
        self._read = self._written = 0  # bytes of the file
        self._more = asyncio.Event()
        self._less = asyncio.Event()
        self._is_complete = False
        self.failure: Exception | None = None  # of `send`; whatever is put afterwards is dropped
        self._sending = asyncio.create_task(self._send_all())

    @property
    def spooled(self) -> int:
        """Bytes in the file that were not sent yet."""
        return self._written - self._read

    async def put(self, data: bytes) -> None:
        """Leave it to be sent; waits only while the file is full."""
        while self._written and self._written + len(data) > self._limit and not self._is_done:
            self._less.clear()
            await self._less.wait()
        if self._is_done:
            return
        if self._written or self._near_size + len(data) > _IN_MEMORY:
            self._spool(data)
        else:
            self._near.append(data)
            self._near_size += len(data)
        self._more.set()

    async def drain(self) -> None:
        """No more comes: return when everything is sent, or cannot be."""
        self._is_complete = True
        self._more.set()
        await asyncio.wait([self._sending])

    async def close(self) -> None:
        """Give up what was not sent."""
        self._sending.cancel()
        await asyncio.wait([self._sending])
        if self._file:
            self._file.close()

    @property
    def _is_done(self) -> bool:
        return self._sending.done() or self.failure is not None

    async def _send_all(self) -> None:
        try:
            while True:
                if piece := self._take():
                    self._less.set()
                    await self._send(piece)
                elif self._is_complete:
                    return
                else:
                    self._more.clear()
                    await self._more.wait()
        except Exception as error:  # noqa: BLE001
            self.failure = error
        finally:
            self._less.set()

    def _take(self) -> bytes:
        if self._near:
            piece = self._near.popleft()
            self._near_size -= len(piece)
            return piece
        if self._file is None or not self.spooled:
            return b""
        self._file.seek(self._read)
        piece = self._file.read(_PIECE)
        self._read += len(piece)
        if not self.spooled:
            self._file.truncate(0)
            self._read = self._written = 0
        return piece

    def _spool(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._file.seek(self._written)
        self._written += self._file.write(data)
