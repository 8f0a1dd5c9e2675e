"""Writes the access log as JSON, once per turn of the event loop.

A line that goes through `logging` costs several times as much as the rest of a request that is
answered from the cache. This writer formats the lines itself and writes those of one turn of the
event loop together. A test compares its lines with those of `JsonFormatter`.
"""

import asyncio
import logging
import os
import time
from json.encoder import encode_basestring_ascii as quoted
from typing import TextIO

from tornado_members.telemetry.access_log import AccessLogRecord, format_message, log_fields
from tornado_members.telemetry.logs import ACCESS_LOGGER, MAX_MESSAGE, format_time

log = logging.getLogger(__name__)

_MAX_PENDING = 100  # lines; beyond that they are written before the turn ends


class AccessLogWriter:
    """Writes access-log lines to the stream of the log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._after_level = f'"logger": "{ACCESS_LOGGER}", "pid": {os.getpid()}, "message": '
        self._pending: list[str] = []

    def write(self, record: AccessLogRecord, level: int) -> None:
        """Add the line of a record; it is written when the current turn of the loop ends."""
        self._pending.append(self._format(record, level))
        if len(self._pending) == 1:
            asyncio.get_running_loop().call_soon(self.flush)
        elif len(self._pending) >= _MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write the pending lines."""
        lines, self._pending = self._pending, []
        if lines:
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError) as error:  # as in `logging`, no request fails for this
                log.warning("%d access-log lines could not be written: %s", len(lines), error)

    def _format(self, record: AccessLogRecord, level: int) -> str:
        written_at, fields = format_time(time.time()), log_fields(record)
        message = quoted(format_message(fields)[:MAX_MESSAGE])
        shown = [
            f'"{name}": {quoted(value) if isinstance(value, str) else value}'
            for name, value in fields.items()
            if value is not None
        ]
        return (
            f'{{"time": "{written_at}", "level": "{_LEVELS[level]}", '
            f"{self._after_level}{message}, {', '.join(shown)}}}\n"
        )


_LEVELS = {logging.INFO: "info", logging.WARNING: "warning"}
