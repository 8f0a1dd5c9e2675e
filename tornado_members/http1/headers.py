"""Shortcuts past the checks and copies of tornado.httputil.HTTPHeaders."""

from tornado.httputil import HTTPHeaders


def duplicate(headers: HTTPHeaders) -> HTTPHeaders:
    """Return HTTPHeaders(headers), without the checks that make it take ten times as long."""
    copy = HTTPHeaders.__new__(HTTPHeaders)
    copy._as_list = {name: values.copy() for name, values in headers._as_list.items()}
    copy._combined_cache = headers._combined_cache.copy()
    return copy


def header_lines(headers: HTTPHeaders) -> list[str]:
    """Return the lines of a header section, without their line ends."""
    return [name + ": " + value for name, values in headers._as_list.items() for value in values]
