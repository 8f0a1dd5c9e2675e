"""Logs, and how many requests are under way."""

import asyncio
import logging
import re
import sys
from logging import getLogger
from typing import Protocol

from tornado.httputil import HTTPServerRequest

_BY_NAME = re.compile("/by-name/.*")
_access_log = getLogger("tornado_members.requests")


def configure_logging(level: str = "info") -> None:
    """Log lines go to standard error, for people."""
    logging.basicConfig(
        force=True,
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    # Below that, the driver writes whole commands: members, and the hashes of passwords.
    getLogger("pymongo").setLevel(max(logging.INFO, logging.getLevelName(level.upper())))
    getLogger("tornado.general").addFilter(_WithoutContent())


class _WithoutContent(logging.Filter):
    """Tornado quotes the header that it could not read: it may be the one with the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Malformed HTTP") and isinstance(record.args, tuple):
            record.msg, record.args = "Malformed HTTP message from %s", record.args[:1]
        return True


class _Answered(Protocol):
    """What the log wants to know of a request handler."""

    request: HTTPServerRequest

    def get_status(self) -> int:
        """The status of the answer."""


class RequestLog:
    """A line a request, and the number of requests that are under way."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.idle = asyncio.Event()  # set while none is
        self.idle.set()

    def begun(self) -> None:
        """A handler was made for a request."""
        self.in_flight += 1
        self.idle.clear()

    def ended(self) -> None:
        """Its answer has left, or can never leave."""
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()

    def write(self, handler: _Answered) -> None:
        """The line of a request: never a member's name, its query, its body or its credentials."""
        status = handler.get_status()
        level = logging.WARNING if status >= 500 else logging.INFO
        if not _access_log.isEnabledFor(level):
            return
        caller = getattr(handler, "caller", None)
        _access_log.log(
            level,
            "%s %s %s %.1f ms %r %s",
            status,
            handler.request.method,
            _BY_NAME.sub("/by-name/...", handler.request.path)[:200],
            handler.request.request_time() * 1000,
            caller.subject[:64] if caller else None,
            getattr(handler, "request_id", "-"),
        )
