"""The heads of requests, and the headers of requests and responses.

Most requests of a connection differ in their target only. Their headers are parsed once, and shared
until the application changes them.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tornado.httputil import HTTPHeaders, RequestStartLine, _normalize_header

from tornado_members.http1.limits import Limits

VERSION = b"HTTP/1.1"
TARGET_AT = len(b"GET ")
# RFC 9112 §3. The application decides about bytes beyond ASCII.
_TARGET = re.compile(rb"/[\x21-\x7e\x80-\xff]*")


class RequestHeaders(HTTPHeaders):
    """The headers of a request, with a fast `get` of absent ones, which is the usual case."""

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header, without an exception if there is none."""
        return self[name] if name in self else default  # noqa: SIM401  (it would call itself)


class SharedHeaders(RequestHeaders):
    """A copy of headers that shares their content until the copy is changed.

    The original must not be changed afterwards.
    """

    def __init__(self, original: HTTPHeaders) -> None:
        self._as_list = original._as_list
        self._combined_cache = original._combined_cache
        self._is_shared = True

    def set_normalized(self, values: Mapping[str, str]) -> None:
        """Set headers whose names are in the form that Tornado normalizes names to."""
        if self._is_shared:
            self._own()
        self._as_list.update({name: [value] for name, value in values.items()})
        self._combined_cache.update(values)

    def add(self, name: str, value: str, *, _chars_are_bytes: bool = True) -> None:
        """Add a value for a name."""
        values = self.get_list(name)
        self._own()
        if values:  # the list of the original stays as it is
            self._as_list[_normalize_header(name)] = values
        super().add(name, value, _chars_are_bytes=_chars_are_bytes)

    def get_list(self, name: str) -> list[str]:
        """Return all values of a name."""
        return [*super().get_list(name)]

    def __setitem__(self, name: str, value: str) -> None:
        if self._is_shared:
            self._own()
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self._own()
        super().__delitem__(name)

    def _own(self) -> None:
        self._is_shared = False
        self._as_list = {**self._as_list}
        self._combined_cache = {**self._combined_cache}


def encode_headers(headers: HTTPHeaders) -> bytes:
    """Return the lines of a header section. Raises ValueError for a value with a line end.

    HTTPHeaders would check and copy each value.
    """
    lines = [
        f"{name}: {value}\r\n" for name, values in headers._as_list.items() for value in values
    ]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ValueError("a header contains CR or LF")
    return text.encode("latin-1")


class RequestHead:
    """A parsed head.

    `cache` is for values that the application derives from the headers. While the requests of a
    connection repeat the same bytes except for their target, they have the same cache.
    """

    __slots__ = (
        "cache",
        "chunked",
        "expects_continue",
        "has_body",
        "headers",
        "keep_alive",
        "length",
        "start_line",
    )

    def __init__(
        self, start_line: RequestStartLine, headers: HTTPHeaders, cache: dict[object, Any]
    ) -> None:
        self.start_line = start_line
        self.headers = headers
        self.cache = cache
        self.length = 0  # of the body in bytes, unless it is chunked
        self.chunked = False
        self.keep_alive = start_line.version == "HTTP/1.1"
        self.has_body = False  # content follows the head
        self.expects_continue = False


class LastHead(NamedTuple):
    """The last head of a connection, if it was a plain GET request."""

    rest: bytes  # all except the method, the target and the space after it
    version: str
    headers: HTTPHeaders  # never changed
    keep_alive: bool
    cache: dict[object, Any]

    def repeated_in(self, data: bytes, limits: Limits) -> RequestHead | None:
        """Return the head if `data` is this one with another target, and nothing else.

        A target has no space and no line end, so `data` has one request line and one head.
        """
        if not data.endswith(self.rest) or not data.startswith(b"GET "):
            return None
        end = len(data) - len(self.rest) - 1  # of the target
        line_bytes = end + 1 + len(VERSION)
        if line_bytes > limits.request_line_bytes or len(data) > limits.head_bytes:
            return None
        if data[end : end + 1] != b" ":
            return None
        target = _TARGET.fullmatch(data, TARGET_AT, end)
        return None if target is None else self.with_target(target[0])

    def with_target(self, target: bytes) -> RequestHead:
        """Return a head that differs from this one in its target only."""
        line = RequestStartLine("GET", target.decode("latin-1"), self.version)
        head = RequestHead(line, SharedHeaders(self.headers), self.cache)
        head.keep_alive = self.keep_alive
        return head
