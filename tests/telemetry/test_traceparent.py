"""The traceparent headers that are accepted (W3C Trace Context)."""

import pytest

from tornado_members.telemetry.traceparent import TraceContext, parse_traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f"cc-{TRACE}-{PARENT}-01",  # of a future version,
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",  # which may have more fields
    ],
)
def test_traceparent_gives_the_trace_and_the_parent(header: str) -> None:
    assert parse_traceparent(header) == TraceContext(TRACE, PARENT)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}-0x",
    ],
)
def test_traceparent_that_is_invalid_is_ignored(header: str) -> None:
    assert parse_traceparent(header) is None
