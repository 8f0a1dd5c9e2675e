"""Answers without a length, at the pace of their reader."""

import asyncio
import socket
import struct
from logging import getLogger
from typing import Any, cast

from tornado_members.errors import Problem
from tornado_members.handlers.base import BaseHandler
from tornado_members.telemetry.logs import fields

log = getLogger(__name__)

_PIECE = 65536  # bytes that are written at once: this much waits in the process, and no more
_ABORT = struct.pack("ii", 1, 0)  # for SO_LINGER: the connection ends with a reset


class ReaderGone(Exception):
    """Whoever reads the answer has gone, or takes nothing. The text says which."""


class StreamedAnswer:
    """The body of a handler's answer, whose headers go out with its first piece."""

    def __init__(self, handler: BaseHandler, seconds: float) -> None:
        """`seconds` is how long a reader may take nothing."""
        self._handler = handler
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._heard_at = 0.0
        if handler.request.version == "HTTP/1.0":
            # No chunks, no length: the end of the connection is the end of the answer.
            handler.request.headers["Connection"] = "close"

    def heard(self) -> None:
        """The reader is there, as something else has shown: its time begins anew."""
        self._heard_at = self._loop.time()

    async def send(self, data: bytes) -> None:
        """Return once the system has taken all of it. Raises ReaderGone."""
        for start in range(0, len(data), _PIECE):
            self._handler.write(data[start : start + _PIECE])
            await self._flush()

    async def send_headers(self) -> None:
        """The headers alone. Raises ReaderGone."""
        await self._flush()

    async def _flush(self) -> None:
        if self._handler.is_gone:
            raise ReaderGone("has gone")
        self.heard()
        sent = self._handler.flush()
        while not sent.done():
            left = self._heard_at + self._seconds - self._loop.time()
            if left <= 0:
                raise ReaderGone(f"took nothing for {self._seconds:g} seconds")
            await asyncio.wait([sent], timeout=left)
        if sent.cancelled() or sent.exception() or self._handler.is_gone:
            raise ReaderGone("has gone")

    def end(self) -> None:
        """The answer is complete."""
        handler = self._handler
        sent = handler.finish()
        if handler.request.version == "HTTP/1.0":
            sent.add_done_callback(lambda _: self._close())

    def break_off(self, reason: object) -> None:
        """Close the connection so that the reader knows that the answer is not complete."""
        if isinstance(reason, Problem):
            self._handler.problem_code = reason.code
        said = fields(request_id=self._handler.request_id, route=self._handler.route)
        log.warning("an answer is broken off: %s", reason, extra=said)
        if self._handler.request.version == "HTTP/1.0":
            stream = getattr(self._handler.request.connection, "stream", None)
            if stream is not None and stream.socket is not None:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._close()
        if not self._handler.is_finished:
            self._handler.finish()

    def _close(self) -> None:
        # Tornado's HTTPConnection does not promise it, and every one has it.
        cast(Any, self._handler.request.connection).close()
