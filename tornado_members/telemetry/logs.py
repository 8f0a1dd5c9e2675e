"""Log lines: JSON for programs, text for terminals.

One line is one event, whatever a client sent: control characters are escaped, and a traceback is
part of its line (JSON) or has a prefix on each row (text). Repeated warnings are logged a few
times and then counted.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from logging import getLogger
from typing import Any, Literal, TextIO

Format = Literal["auto", "json", "text"]

ACCESS_LOGGER = "tornado_members.requests"
_WINDOW_SECONDS = 10.0
_MAX_REPEATS = 5  # per window; of records with a traceback only the first is logged
_MAX_SOURCES = 1000  # per window; a program has fewer places that log
MAX_MESSAGE = 4000  # characters
_MAX_TRACEBACK = 20_000  # characters
encode_line = json.JSONEncoder(default=str, check_circular=False).encode  # in ASCII
# Fields that the message of an access-log line contains already.
_IN_MESSAGE = frozenset({"method", "path", "route", "status"})


def configure_logging(
    level: str = "info", form: Format = "text", stream: TextIO | None = None
) -> None:
    """Configure the root logger. `stream` is standard error by default."""
    stream = stream or sys.stderr
    is_text = form == "text" or (form == "auto" and stream.isatty())
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # the locale's encoding may lack a character
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    handler.addFilter(RepeatFilter(handler.emit))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # No formatter shows these, and finding them costs time.
    logging.logThreads = logging.logMultiprocessing = False
    # At debug level the driver logs whole commands, with members and hashes of passwords.
    getLogger("pymongo").setLevel(max(logging.INFO, logging.getLevelName(level.upper())))
    getLogger("tornado.general").addFilter(_WithoutQuotedHeader())


def writes_json() -> bool:
    """Return True if everything on the stream of the log must be JSON."""
    return json_stream() is not None


def json_stream() -> TextIO | None:
    """Return the stream of the log if the log is JSON, else None."""
    for handler in getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and isinstance(
            handler.formatter, JsonFormatter
        ):
            stream: TextIO = handler.stream
            return stream
    return None


def flush_repeats() -> None:
    """Log the counts of repeated records. Call this periodically."""
    for handler in getLogger().handlers:
        for repeats in handler.filters:
            if isinstance(repeats, RepeatFilter):
                repeats.flush()


def fields(**values: object) -> dict[str, Any]:
    """Return the `extra` argument of a logging call with fields; None values are left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class _WithoutQuotedHeader(logging.Filter):
    """Removes the malformed header that Tornado quotes, which may contain the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Accept the record, without the quotation."""
        if str(record.msg).startswith("Malformed HTTP") and isinstance(record.args, tuple):
            record.msg, record.args = "Malformed HTTP message from %s", record.args[:1]
        return True


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        line: dict[str, Any] = {
            "time": format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage()[:MAX_MESSAGE],
            **_fields_of(record),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)[-_MAX_TRACEBACK:]
        # ASCII only: some log readers split lines at other Unicode separators.
        return encode_line(line)


def format_time(seconds: float) -> str:
    """Format seconds since the epoch as UTC with milliseconds."""
    whole = int(seconds)
    return f"{_format_second(whole)}.{int((seconds - whole) * 1000):03}+00:00"


@lru_cache(16)
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class TextFormatter(logging.Formatter):
    """Formats a record as text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the time, the level, the message and then the fields."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = _printable(record.getMessage()[:MAX_MESSAGE])
        hidden = _IN_MESSAGE if record.name == ACCESS_LOGGER else ()
        further = [f"{k}={v}" for k, v in _fields_of(record).items() if k not in hidden]
        lines = [
            f"{clock} {record.levelname:7} {record.name}: {message}",
            *([_printable(" ".join(further))] if further else []),
        ]
        line = "  ".join(lines)
        if record.exc_info and record.exc_info[0]:
            traceback = self.formatException(record.exc_info)[-_MAX_TRACEBACK:]
            return "\n".join([line, *(f"  | {_printable(row)}" for row in traceback.split("\n"))])
        return line


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, "fields", {})
    return found


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(slots=True)
class _Repeated:
    """Similar records since the first of them in the window."""

    since: float
    written: int = 0
    last: logging.LogRecord | None = None  # the last one that was suppressed
    suppressed: int = 0


class RepeatFilter(logging.Filter):
    """Logs similar warnings and errors a few times per ten seconds, then counts them.

    Records are similar if they have the same source line and the same type of exception. The
    access log is exempt.
    """

    def __init__(
        self,
        emit: Callable[[logging.LogRecord], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns seconds."""
        super().__init__()
        self._emit = emit
        self._clock = clock
        self._repeated: dict[object, _Repeated] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the record is to be logged."""
        if record.levelno < logging.WARNING or record.name == ACCESS_LOGGER:
            return True
        self.flush()
        with self._lock:
            return self._is_logged(record)

    def _is_logged(self, record: logging.LogRecord) -> bool:
        key = _key_of(record)
        group = self._repeated.get(key)
        if group is None:
            if len(self._repeated) >= _MAX_SOURCES:
                return True
            group = self._repeated[key] = _Repeated(self._clock())
        if group.written >= (1 if record.exc_info else _MAX_REPEATS):
            group.last, group.suppressed = record, group.suppressed + 1
            return False
        group.written += 1
        return True

    def flush(self) -> None:
        """Log the counts of windows that have ended."""
        until = self._clock() - _WINDOW_SECONDS
        with self._lock:
            ended = [(key, group) for key, group in self._repeated.items() if group.since <= until]
            for key, _ in ended:
                del self._repeated[key]
        for _, group in ended:
            if group.last:
                self._emit(_summary(group.last, group.suppressed))


def _key_of(record: logging.LogRecord) -> object:
    exception = record.exc_info[0] if record.exc_info else None
    code = _fields_of(record).get("code")
    return record.name, record.lineno, code, exception


def _summary(last: logging.LogRecord, suppressed: int) -> logging.LogRecord:
    """Return a record with the last suppressed message and the number of them."""
    exception = last.exc_info[1] if last.exc_info else None
    reason = f": {type(exception).__name__}: {exception}" if exception else ""
    message = f"{last.getMessage()}{reason} (one of {suppressed} alike in {_WINDOW_SECONDS:g} s)"
    summary = logging.LogRecord(last.name, last.levelno, "", 0, "%s", (message,), None)
    summary.__dict__["fields"] = {**_fields_of(last), "repeated": suppressed}
    return summary
