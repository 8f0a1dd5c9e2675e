"""Shortcuts past the checks and copies of tornado.httputil.HTTPHeaders."""

from tornado.httputil import HTTPHeaders


def encode_headers(headers: HTTPHeaders) -> bytes:
    """Return the lines of a header section. Raises ValueError for a value with a line end."""
    lines = [
        f"{name}: {value}\r\n" for name, values in headers._as_list.items() for value in values
    ]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ValueError("a header contains CR or LF")
    return text.encode("latin-1")
