"""Counts requests and writes the access log."""

import asyncio
import logging
from logging import getLogger

from tornado_members.telemetry.access_log import AccessLogRecord, format_message, log_fields
from tornado_members.telemetry.access_log_writer import AccessLogWriter
from tornado_members.telemetry.logs import ACCESS_LOGGER, fields, json_stream
from tornado_members.telemetry.metrics import Histogram
from tornado_members.telemetry.tracing import RequestSpan

log = getLogger(ACCESS_LOGGER)

# Any other method is counted as "other": a label must have few values.
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """The requests in flight, and the durations of the answered ones."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.idle = asyncio.Event()  # set while no request is in flight
        self.idle.set()
        # Durations in seconds by route, method and status.
        self.durations: dict[tuple[str, str, int], Histogram] = {}
        stream = json_stream()
        self._writer = AccessLogWriter(stream) if stream else None

    def request_started(self) -> None:
        """Count a request as in flight."""
        self.in_flight += 1
        self.idle.clear()

    def request_finished(self) -> None:
        """Count a request as no longer in flight: answered, or its client has disconnected."""
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()

    def record(self, record: AccessLogRecord, span: RequestSpan | None = None) -> None:
        """Count an answered request, write its log line, and export its span if it is traced."""
        if span is not None:
            span.end(record)
            record = record._replace(span=span.ids)
        # The time for which a client follows the change feed is not a latency of the service.
        seconds = record.seconds if record.seconds_to_start is None else record.seconds_to_start
        level = _level_of(record.status)
        self.observe(record.route, record.method, record.status, seconds)
        if log.isEnabledFor(level):
            if self._writer:
                self._writer.write(record, level)
            else:
                _log(record, level)

    def is_logged(self, status: int) -> bool:
        """Return True if the access log has a line for responses of this status."""
        return log.isEnabledFor(_level_of(status))

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        durations = self.durations.get((route, method, status))
        if durations is None:
            label = method if method in _METHODS else "other"
            durations = self.durations.setdefault((route, label, status), Histogram())
        durations.observe(seconds)


def _level_of(status: int) -> int:
    return logging.WARNING if status >= 500 else logging.INFO


def _log(record: AccessLogRecord, level: int) -> None:
    """Log a record as log.log() would, without the cost of finding the caller's source line."""
    shown = log_fields(record)
    message, extra = format_message(shown), fields(**shown)
    log.handle(log.makeRecord(ACCESS_LOGGER, level, "", 0, "%s", (message,), None, None, extra))
