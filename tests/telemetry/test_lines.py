"""The lines of requests look as those that go through `logging`, and all of them are written."""

import asyncio
import errno
import io
import json
import logging

import pytest

from tornado_members.telemetry.lines import RequestLines
from tornado_members.telemetry.logs import JsonLines, configure_logging
from tornado_members.telemetry.requests import RequestLog
from tornado_members.telemetry.spans import Ids
from tornado_members.telemetry.told import Told

PLAIN = Told(
    method="GET", route="/members/{memberId}", path="/members/42", status=200, seconds=0.00123456
)
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    "told",
    [
        PLAIN,
        PLAIN._replace(request_id="abc", subject="Zoë \u202e\"'\\", cache="hit", seconds=12.0),
        PLAIN._replace(status=503, code="dependency-away", seconds=1e-9),
        PLAIN._replace(path='/members/"\n\x00\ud800', route="none", status=404),
        PLAIN._replace(traceparent=TRACEPARENT),
        PLAIN._replace(traceparent=TRACEPARENT, span=Ids("a" * 32, "c" * 16)),
        PLAIN._replace(subject="s" * 1000, method="M'\\"),
        PLAIN._replace(method="M" * 5000),
    ],
)
async def test_it_is_written_as_by_logging(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    level = logging.WARNING if told.status >= 500 else logging.INFO
    RequestLog().tell(told)
    (record,) = caplog.records
    expected = JsonLines().format(record)
    stream = io.StringIO()
    lines = RequestLines(stream)
    lines.write(told, level)
    lines.flush()
    (line,) = stream.getvalue().splitlines()
    start = line.index(", ")  # behind the time
    assert line[start:] == expected[expected.index(", ") :]
    assert line.isascii()
    time, expected_time = json.loads(line)["time"], json.loads(expected)["time"]
    assert (len(time), time[-6:], time[:14]) == (len(expected_time), "+00:00", expected_time[:14])


async def test_those_of_one_turn_are_written_at_once() -> None:
    class Counting(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    stream = Counting()
    lines = RequestLines(stream)
    for _ in range(30):
        lines.write(PLAIN, logging.INFO)
    assert stream.writes == 0
    await asyncio.sleep(0)
    assert (stream.writes, stream.getvalue().count("\n")) == (1, 30)
    lines.write(PLAIN, logging.INFO)
    await asyncio.sleep(0)
    assert (stream.writes, stream.getvalue().count("\n")) == (2, 31)


async def test_no_more_than_some_wait() -> None:
    stream = io.StringIO()
    lines = RequestLines(stream)
    for _ in range(1000):
        lines.write(PLAIN, logging.INFO)
    assert stream.getvalue().count("\n") == 1000


async def test_no_request_fails_for_a_log_that_cannot_be_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    lines = RequestLines(Full())
    for _ in range(150):
        lines.write(PLAIN, logging.INFO)
    await asyncio.sleep(0)
    told = [record.getMessage() for record in caplog.records]
    assert [words.split(" ")[0] for words in told] == ["100", "50"]
    assert "No space left" in told[0]


async def test_it_is_taken_where_the_log_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = root.level
    try:
        for form, is_json in (("text", False), ("json", True)):
            stream = io.StringIO()
            configure_logging("info", form, stream)  # type: ignore[arg-type]
            RequestLog().tell(PLAIN)
            await asyncio.sleep(0)
            (line,) = stream.getvalue().splitlines()
            assert line.startswith("{") is is_json
            configure_logging("warning", form, stream)  # type: ignore[arg-type]
            RequestLog().tell(PLAIN)
            await asyncio.sleep(0)
            assert stream.getvalue().splitlines() == [line]
    finally:
        root.setLevel(level)
