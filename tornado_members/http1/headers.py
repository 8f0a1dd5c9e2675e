"""Shortcuts past the checks and copies of tornado.httputil.HTTPHeaders."""

from typing import Any

from tornado.httputil import HTTPHeaders


class RequestHeaders(HTTPHeaders):
    """The headers of a request. Most that an application asks for are absent."""

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

    def add(self, name: str, value: str, *, _chars_are_bytes: bool = True) -> None:
        """Add a value for a name."""
        self._own()
        super().add(name, value, _chars_are_bytes=_chars_are_bytes)

    def get_list(self, name: str) -> list[str]:
        """Return all values of a name."""
        return [*super().get_list(name)]

    def __setitem__(self, name: str, value: str) -> None:
        self._own()
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self._own()
        super().__delitem__(name)

    def _own(self) -> None:
        if self._is_shared:
            self._is_shared = False
            self._as_list = {name: [*values] for name, values in self._as_list.items()}
            self._combined_cache = {**self._combined_cache}


def header_lines(headers: HTTPHeaders) -> list[str]:
    """Return the lines of a header section, without their line ends."""
    return [name + ": " + value for name, values in headers._as_list.items() for value in values]
