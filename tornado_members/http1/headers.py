"""Shortcuts past the checks and copies of tornado.httputil.HTTPHeaders."""

from collections.abc import Mapping
from typing import Any

from tornado.httputil import HTTPHeaders, _normalize_header


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
    """Return the lines of a header section. Raises ValueError for a value with a line end."""
    lines = [
        f"{name}: {value}\r\n" for name, values in headers._as_list.items() for value in values
    ]
    text = "".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise ValueError("a header contains CR or LF")
    return text.encode("latin-1")
