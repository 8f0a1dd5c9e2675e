"""AccessLogWriter writes the same lines as JsonFormatter, and loses none."""

import asyncio
import errno
import io
import json
import logging

import pytest

from tornado_members.telemetry.access_log import AccessLogRecord
from tornado_members.telemetry.access_log_writer import AccessLogWriter
from tornado_members.telemetry.logs import JsonFormatter, configure_logging
from tornado_members.telemetry.request_metrics import RequestMetrics
from tornado_members.telemetry.spans import SpanIds

PLAIN = AccessLogRecord(
    method="GET", route="/members/{memberId}", path="/members/42", status=200, seconds=0.00123456
)
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    "record",
    [
        PLAIN,
        PLAIN._replace(request_id="abc", subject="Zoë \u202e\"'\\", cache="hit", seconds=12.0),
        PLAIN._replace(status=503, code="dependency-unavailable", seconds=1e-9),
        PLAIN._replace(path='/members/"\n\x00\ud800', route="none", status=404),
        PLAIN._replace(status=401, client_address="2001:db8::7", code="token-invalid"),
        PLAIN._replace(traceparent=TRACEPARENT),
        PLAIN._replace(traceparent=TRACEPARENT, span=SpanIds("a" * 32, "c" * 16)),
        PLAIN._replace(subject="s" * 1000, method="M'\\"),
        PLAIN._replace(method="M" * 5000),
    ],
)
async def test_writer_formats_like_json_formatter(
    record: AccessLogRecord, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    level = logging.WARNING if record.status >= 500 else logging.INFO
    RequestMetrics().record(record)
    (logged,) = caplog.records
    expected = JsonFormatter().format(logged)
    stream = io.StringIO()
    writer = AccessLogWriter(stream)
    writer.write(record, level)
    writer.flush()
    (line,) = stream.getvalue().splitlines()
    start = line.index(", ")  # after the time
    assert line[start:] == expected[expected.index(", ") :]
    assert line.isascii()
    time, expected_time = json.loads(line)["time"], json.loads(expected)["time"]
    assert (len(time), time[-6:], time[:14]) == (len(expected_time), "+00:00", expected_time[:14])


async def test_writer_writes_lines_of_one_turn_together() -> None:
    class Counting(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    stream = Counting()
    writer = AccessLogWriter(stream)
    for _ in range(30):
        writer.write(PLAIN, logging.INFO)
    assert stream.writes == 0
    await asyncio.sleep(0)
    assert (stream.writes, stream.getvalue().count("\n")) == (1, 30)
    writer.write(PLAIN, logging.INFO)
    await asyncio.sleep(0)
    assert (stream.writes, stream.getvalue().count("\n")) == (2, 31)


async def test_writer_bounds_pending_lines() -> None:
    stream = io.StringIO()
    writer = AccessLogWriter(stream)
    for _ in range(1000):
        writer.write(PLAIN, logging.INFO)
    assert stream.getvalue().count("\n") == 1000


async def test_writer_survives_a_full_disk(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    writer = AccessLogWriter(Full())
    for _ in range(150):
        writer.write(PLAIN, logging.INFO)
    await asyncio.sleep(0)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(" ")[0] for message in messages] == ["100", "50"]
    assert "No space left" in messages[0]


async def test_request_metrics_write_json_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    try:
        for form, is_json in (("text", False), ("json", True)):
            stream = io.StringIO()
            configure_logging("info", form, stream)  # type: ignore[arg-type]
            RequestMetrics().record(PLAIN)
            await asyncio.sleep(0)
            (line,) = stream.getvalue().splitlines()
            assert line.startswith("{") is is_json
            configure_logging("warning", form, stream)  # type: ignore[arg-type]
            RequestMetrics().record(PLAIN)
            await asyncio.sleep(0)
            assert stream.getvalue().splitlines() == [line]
    finally:
        root.setLevel(level)
