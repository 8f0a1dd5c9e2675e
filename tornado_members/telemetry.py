"""Logs, and how many requests are under way."""

import asyncio
import logging
import sys
from logging import getLogger

from tornado.web import RequestHandler

_access_log = getLogger("tornado_members.requests")


def configure_logging(level: int = logging.INFO) -> None:
    """Log lines go to standard error, for people."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )


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
        """Its answer is complete."""
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()

    def write(self, handler: RequestHandler) -> None:
        """The line of a request: never its query, its body or its credentials."""
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
            handler.request.path[:200],
            handler.request.request_time() * 1000,
            caller.subject[:64] if caller else None,
            getattr(handler, "request_id", "-"),
        )
