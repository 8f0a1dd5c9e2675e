"""The `traceparent` header (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)


class TraceContext(NamedTuple):
    """A trace, and the span in it that sent the request; both in hexadecimal digits."""

    trace_id: str
    parent_id: str


def parse_traceparent(header: str) -> TraceContext | None:
    """Parse a traceparent header. Return None if it is invalid: it is then ignored (§3.2.2.3).

    A later version may append fields to those that this one knows (§3.2.4).
    """
    match = _TRACEPARENT.fullmatch(header)
    if not match or match["version"] == "ff" or (match["version"] == "00" and match["more"]):
        return None
    if not int(match["trace"], 16) or not int(match["parent"], 16):
        return None
    return TraceContext(match["trace"], match["parent"])
