"""The lines of requests as JSON, written by the turn of the loop.

There is one for each request, so they do not take the way through `logging`, which costs several
times as much as all the rest of it. JsonLines says how they look; a test compares.
"""

import asyncio
import logging
import os
import time
from typing import TextIO

from tornado_members.telemetry.logs import REQUESTS, encode_line, shown_time
from tornado_members.telemetry.told import Told, said_of, words_of

_MOST_WAITING = 100  # lines; then they are written in the midst of a turn


class RequestLines:
    """Writes to the stream of the log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pid = os.getpid()
        self._waiting: list[str] = []

    def write(self, told: Told, level: int) -> None:
        """A line; what comes in one turn of the loop is written at its end."""
        said = {name: value for name, value in said_of(told).items() if value is not None}
        line = {
            "time": shown_time(time.time()),
            "level": logging.getLevelName(level).lower(),
            "logger": REQUESTS,
            "pid": self._pid,
            "message": words_of(told),
            **said,
        }
        self._waiting.append(encode_line(line))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)
        elif len(self._waiting) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        lines, self._waiting = self._waiting, []
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
