"""The lines of requests as JSON, written by the turn of the loop.

There is one for each request. The way through `logging` costs several times as much as the rest of
a request that is answered from the cache, so these are written here, and together. JsonLines says
how they look, and a test compares.
"""

import asyncio
import logging
import os
import time
from json.encoder import encode_basestring_ascii as quoted
from typing import TextIO

from tornado_members.telemetry.logs import LONGEST_MESSAGE, REQUESTS, shown_time
from tornado_members.telemetry.told import Told, said_of, words_of

log = logging.getLogger(__name__)

_MOST_WAITING = 100  # lines; then they are written in the midst of a turn


class RequestLines:
    """Writes to the stream of the log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._after_level = f'"logger": "{REQUESTS}", "pid": {os.getpid()}, "message": '
        self._waiting: list[str] = []

    def write(self, told: Told, level: int) -> None:
        """A line; what comes in one turn of the loop is written at its end."""
        self._waiting.append(self._line(told, level))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)
        elif len(self._waiting) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        lines, self._waiting = self._waiting, []
        if lines:
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError) as error:  # as with `logging`, no request fails for it
                log.warning("%d lines of requests were not written: %s", len(lines), error)

    def _line(self, told: Told, level: int) -> str:
        words = [
            f'"{name}": {quoted(value) if isinstance(value, str) else value}'
            for name, value in said_of(told).items()
            if value is not None
        ]
        return (
            f'{{"time": "{shown_time(time.time())}", "level": "{_LEVELS[level]}", '
            f"{self._after_level}{quoted(words_of(told)[:LONGEST_MESSAGE])}, {', '.join(words)}}}\n"
        )


_LEVELS = {logging.INFO: "info", logging.WARNING: "warning"}
