"""The trace that a request belongs to (W3C Trace Context, https://www.w3.org/TR/trace-context/)."""

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)


class Trace(NamedTuple):
    """Which trace, and which span of it sent the request; both in hexadecimal digits."""

    trace_id: str
    parent_id: str


def parse_traceparent(header: str) -> Trace | None:
    """What the header says; None if it is none, and then it is to be ignored (§3.2.2.3).

    A later version may have more behind what this one knows (§3.2.4).
    """
    found = _TRACEPARENT.fullmatch(header)
    if not found or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return None
    if not int(found["trace"], 16) or not int(found["parent"], 16):
        return None
    return Trace(found["trace"], found["parent"])
