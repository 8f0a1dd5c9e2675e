"""One event is one line, whatever its contents; repeated events are counted."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from tornado_members.telemetry.logs import (
    ACCESS_LOGGER,
    JsonFormatter,
    RepeatFilter,
    TextFormatter,
    configure_logging,
    fields,
    flush_repeats,
)

# Input with which a client may try to forge lines, or to control a terminal.
FORGED = 'x\n{"level": "error"}\r\x1b[31m\x00\u2028\u2029\x85\ud800é'


class Log:
    """A logger with its own output."""

    def __init__(self) -> None:
        self.now = 0.0
        self.output = io.StringIO()
        self.handler = logging.StreamHandler(self.output)
        self.repeats = RepeatFilter(self.handler.emit, clock=lambda: self.now)
        self.handler.addFilter(self.repeats)
        self.logger = logging.Logger("test")
        self.logger.addHandler(self.handler)

    def lines(self) -> list[str]:
        """Return the lines written since the last call."""
        text = self.output.getvalue()
        self.output.seek(0)
        self.output.truncate()
        return text.splitlines()

    def fail(self, words: str = "it failed") -> None:
        """Log an exception."""
        try:
            raise RuntimeError(FORGED)
        except RuntimeError:
            self.logger.exception("%s", words)

    def warning(self, words: str, **values: object) -> None:
        """Log a warning."""
        self.logger.warning("%s", words, extra=fields(**values))


@pytest.fixture
def log() -> Log:
    return Log()


def test_json_formatter_writes_one_object_per_line(log: Log) -> None:
    log.handler.setFormatter(JsonFormatter())
    log.warning(FORGED, subject=FORGED, odd=object(), none=None)
    log.fail(FORGED)
    assert log.output.getvalue().isascii()
    first, second = map(json.loads, log.lines())
    assert first["message"] == first["subject"] == second["message"] == FORGED
    assert first["level"] == "warning"
    assert first["time"].endswith("+00:00")
    assert "none" not in first
    assert second["exception"].startswith("Traceback")


def test_text_formatter_writes_one_line_and_marks_its_traceback(log: Log) -> None:
    log.handler.setFormatter(TextFormatter())
    log.warning(FORGED, subject=FORGED)
    log.fail(FORGED)
    first, second, *traceback = log.lines()
    assert first.count(r"x\n{") == second.count(r"x\n{") + 1 == 2
    assert len(traceback) > 3
    assert all(line.startswith("  | ") for line in traceback)
    assert all(line.isprintable() for line in (first, second, *traceback))


def test_repeated_traceback_is_written_once_and_then_counted(log: Log) -> None:
    log.handler.setFormatter(JsonFormatter())
    for _ in range(10_000):
        log.fail()
    (only,) = map(json.loads, log.lines())
    assert "Traceback" in only["exception"]
    log.now = 10
    log.fail()
    summary, again = map(json.loads, log.lines())
    assert summary["message"].startswith("it failed: RuntimeError: x")
    assert summary["repeated"] == 9_999
    assert again["exception"] == only["exception"]


def test_repeated_count_is_that_of_the_omitted_records(log: Log) -> None:
    log.handler.setFormatter(JsonFormatter())
    for number in range(100):
        log.warning("the database does not answer", request_id=f"r{number}", code="away")
        log.warning("another warning", code="other") if number == 50 else None
    assert len(log.lines()) == 5 + 1
    log.now = 10
    log.repeats.flush()  # without a further record
    (summary,) = map(json.loads, log.lines())
    assert summary["repeated"] == 95
    assert summary["request_id"] == "r99"
    assert "one of 95 alike in 10 s" in summary["message"]
    log.now = 20
    log.repeats.flush()
    assert log.lines() == []


def test_access_log_omits_no_line(log: Log) -> None:
    log.logger.name = ACCESS_LOGGER
    for _ in range(100):
        log.warning("GET /members/1 503")
        log.logger.info("neither is this omitted")
    assert len(log.lines()) == 200


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, restored at the end of the test."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_logs_are_json_without_a_terminal(root: logging.Logger) -> None:
    output = io.StringIO()
    root.handlers.clear()  # those of pytest
    configure_logging("info", "auto", output)
    root.warning("hello")
    flush_repeats()
    assert json.loads(output.getvalue())["message"] == "hello"
    root.handlers.clear()
    configure_logging("error", "text", output)
    root.warning("not written")
    assert len(output.getvalue().splitlines()) == 1
