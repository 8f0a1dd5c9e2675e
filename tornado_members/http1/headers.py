"""Headers that are known already, for somebody else to change."""

from tornado.httputil import HTTPHeaders


def duplicate(headers: HTTPHeaders) -> HTTPHeaders:
    """As HTTPHeaders(headers), which looks at each character again and takes ten times as long."""
    copy = HTTPHeaders.__new__(HTTPHeaders)
    copy._as_list = {name: values.copy() for name, values in headers._as_list.items()}
    copy._combined_cache = headers._combined_cache.copy()
    return copy
