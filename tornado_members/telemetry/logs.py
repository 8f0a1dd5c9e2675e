"""Lines of log: JSON for machines, or text for people, and never more lines than were written.

A line is one event, whatever a client sent: control characters are escaped, and a traceback is part
of its line (JSON) or marked as what it is (text). What goes wrong again and again is told a few
times, and then counted.
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

REQUESTS = "tornado_members.requests"
_WINDOW_SECONDS = 10.0
_MOST_ALIKE = 5  # in a window; of a traceback, only the first is written
_MOST_KINDS = 1000  # of messages in a window; as many as there are places that log, in truth
LONGEST_MESSAGE = 4000  # characters
_LONGEST_TRACEBACK = 20_000
encode_line = json.JSONEncoder(default=str, check_circular=False).encode  # in ASCII
# What the words of a request's line say already.
_SAID = frozenset({"method", "path", "route", "status"})


def configure_logging(
    level: str = "info", form: Format = "text", stream: TextIO | None = None
) -> None:
    """Where log lines go, standard error if nothing is said, and how they look."""
    stream = stream or sys.stderr
    is_text = form == "text" or (form == "auto" and stream.isatty())
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")  # a locale may have no words for a name
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if is_text else JsonLines())
    handler.addFilter(Repeats(handler.emit))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # No line says them, and looking them up takes time.
    logging.logThreads = logging.logMultiprocessing = False
    # Below that, the driver writes whole commands: members, and the hashes of passwords.
    getLogger("pymongo").setLevel(max(logging.INFO, logging.getLevelName(level.upper())))
    getLogger("tornado.general").addFilter(_WithoutContent())


def writes_json() -> bool:
    """Whether everything on the stream of the log should be JSON."""
    return json_stream() is not None


def json_stream() -> TextIO | None:
    """Where the log goes, if it is JSON."""
    for handler in getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, JsonLines):
            stream: TextIO = handler.stream
            return stream
    return None


def tell_repeats() -> None:
    """Write how often it was, of what was not written any more. To be called now and then."""
    for handler in getLogger().handlers:
        for repeats in handler.filters:
            if isinstance(repeats, Repeats):
                repeats.tell()


def fields(**values: object) -> dict[str, Any]:
    """For `extra=` of a logging call: values of their own beside the words; None is left out."""
    return {"fields": {name: value for name, value in values.items() if value is not None}}


class _WithoutContent(logging.Filter):
    """Tornado quotes the header that it could not read: it may be the one with the token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Write it, without what it quotes."""
        if str(record.msg).startswith("Malformed HTTP") and isinstance(record.args, tuple):
            record.msg, record.args = "Malformed HTTP message from %s", record.args[:1]
        return True


class JsonLines(logging.Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """As JSON."""
        line: dict[str, Any] = {
            "time": shown_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage()[:LONGEST_MESSAGE],
            **_fields_of(record),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)[-_LONGEST_TRACEBACK:]
        # In ASCII, so that no character of anybody's ends the line for some reader.
        return encode_line(line)


def shown_time(seconds: float) -> str:
    """Seconds since the epoch, in UTC and to the millisecond."""
    whole = int(seconds)
    return f"{_shown_second(whole)}.{int((seconds - whole) * 1000):03}+00:00"


@lru_cache(16)
def _shown_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class TextLines(logging.Formatter):
    """For people on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """As words, then what there is beside them."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        words = _printable(record.getMessage()[:LONGEST_MESSAGE])
        hidden = _SAID if record.name == REQUESTS else ()
        further = [f"{k}={v}" for k, v in _fields_of(record).items() if k not in hidden]
        lines = [
            f"{clock} {record.levelname:7} {record.name}: {words}",
            *([_printable(" ".join(further))] if further else []),
        ]
        line = "  ".join(lines)
        if record.exc_info and record.exc_info[0]:
            traceback = self.formatException(record.exc_info)[-_LONGEST_TRACEBACK:]
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
class _Kind:
    """Messages that are alike, since the first of them in the window."""

    since: float
    written: int = 0
    last: logging.LogRecord | None = None  # the last one that was not written
    left_out: int = 0


class Repeats(logging.Filter):
    """Warnings and errors that are alike are written a few times in ten seconds, then counted.

    Alike are those from one place, with one exception. Lines of requests are not its business.
    """

    def __init__(
        self,
        emit: Callable[[logging.LogRecord], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` tells seconds."""
        super().__init__()
        self._emit = emit
        self._clock = clock
        self._kinds: dict[object, _Kind] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        if record.levelno < logging.WARNING or record.name == REQUESTS:
            return True
        self.tell()
        with self._lock:
            return self._take(record)

    def _take(self, record: logging.LogRecord) -> bool:
        key = _key_of(record)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= _MOST_KINDS:
                return True
            kind = self._kinds[key] = _Kind(self._clock())
        if kind.written >= (1 if record.exc_info else _MOST_ALIKE):
            kind.last, kind.left_out = record, kind.left_out + 1
            return False
        kind.written += 1
        return True

    def tell(self) -> None:
        """Write the counts of windows that are over."""
        over = self._clock() - _WINDOW_SECONDS
        with self._lock:
            ended = [(key, kind) for key, kind in self._kinds.items() if kind.since <= over]
            for key, _ in ended:
                del self._kinds[key]
        for _, kind in ended:
            if kind.last:
                self._emit(_summary(kind.last, kind.left_out))


def _key_of(record: logging.LogRecord) -> object:
    exception = record.exc_info[0] if record.exc_info else None
    code = _fields_of(record).get("code")
    return record.name, record.lineno, code, exception


def _summary(last: logging.LogRecord, left_out: int) -> logging.LogRecord:
    """The last message of many, and how many they were."""
    exception = last.exc_info[1] if last.exc_info else None
    reason = f": {type(exception).__name__}: {exception}" if exception else ""
    words = f"{last.getMessage()}{reason} (one of {left_out} alike in {_WINDOW_SECONDS:g} s)"
    summary = logging.LogRecord(last.name, last.levelno, "", 0, "%s", (words,), None)
    summary.__dict__["fields"] = {**_fields_of(last), "repeated": left_out}
    return summary
