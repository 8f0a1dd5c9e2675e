"""A queue of bytes for a client that may send its whole request before it reads the response."""

import asyncio
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from errno import ENOSPC
from logging import getLogger
from typing import IO

from tornado_members.http.spool_budget import SpoolAccount

log = getLogger(__name__)

_IN_MEMORY = 256 * 1024  # bytes
_PIECE = 65536  # bytes


class Spool:
    """A queue of bytes: a few in memory, the rest in an unnamed temporary file.

    Most clients send the whole body of a large import before they read its results. Waiting for
    them would block both sides for ever; the results in memory would be unbounded.
    """

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        account: SpoolAccount,
        on_full: Callable[[], None],
    ) -> None:
        """`send` writes to the client. `on_full` is called when `put` has to wait for space."""
        self._send = send
        self._account = account
        self._on_full = on_full
        self._memory: deque[bytes] = deque()
        self._memory_size = 0
        self._file: IO[bytes] | None = None
        self._read = self._written = 0  # offsets in the file
        self._data_added = asyncio.Event()
        self._space_freed = asyncio.Event()
        self._is_complete = False
        self._is_disk_full = False
        self.failure: Exception | None = None  # of `send`; later bytes are dropped
        self._sending = asyncio.create_task(self._send_all())

    @property
    def spooled(self) -> int:
        """Bytes in the file that were not sent yet."""
        return self._written - self._read

    async def put(self, data: bytes) -> None:
        """Queue bytes to be sent; wait only if the budget of files or the disk is exhausted."""
        while not self._is_done and not self._store(data):
            self._on_full()
            self._space_freed.clear()
            await self._account.wait(self._space_freed)
        self._data_added.set()

    async def drain(self) -> None:
        """Wait until everything was sent, or sending has failed."""
        self._is_complete = True
        self._data_added.set()
        await asyncio.wait([self._sending])

    async def close(self) -> None:
        """Discard what was not sent."""
        self._sending.cancel()
        await asyncio.wait([self._sending])
        if self._file:
            self._file.close()
        self._account.release(self._written)

    @property
    def _is_done(self) -> bool:
        return self._sending.done() or self.failure is not None

    def _store(self, data: bytes) -> bool:
        """Store bytes in memory or in the file; return False if both are full."""
        fits_in_memory = not self._written
        if fits_in_memory and (not self._memory or self._memory_size + len(data) <= _IN_MEMORY):
            self._memory.append(data)
            self._memory_size += len(data)
            return True
        if not self._account.reserve(len(data)):
            return False
        if not self._append(data):
            self._account.cancel_reservation(len(data))
            return False
        return True

    def _append(self, data: bytes) -> bool:
        """Write to the end of the file; False if the disk does not take all bytes."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # close() does
            self._file.seek(self._written)
            written = self._file.write(data)
            if written < len(data):
                self._file.truncate(self._written)
                raise OSError(ENOSPC, f"only {written} of {len(data)} bytes were written")
        except OSError as error:
            if not self._is_disk_full:
                log.warning("the temporary file of an import cannot be written: %s", error)
            self._is_disk_full = True
            return False
        self._written += len(data)
        return True

    async def _send_all(self) -> None:
        try:
            while True:
                if piece := self._take():
                    self._space_freed.set()
                    await self._send(piece)
                elif self._is_complete:
                    return
                else:
                    self._data_added.clear()
                    await self._data_added.wait()
        except Exception as error:  # noqa: BLE001  # the import reports it
            self.failure = error
        finally:
            self._space_freed.set()

    def _take(self) -> bytes:
        if self._memory:
            piece = self._memory.popleft()
            self._memory_size -= len(piece)
            return piece
        if self._file is None or not self.spooled:
            return b""
        self._file.seek(self._read)
        piece = self._file.read(_PIECE)
        self._read += len(piece)
        if not self.spooled:
            self._file.truncate(0)
            self._account.release(self._written)
            self._read = self._written = 0
        return piece
