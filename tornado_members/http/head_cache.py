"""Values that the application derives from the headers of a request, cached for repeated heads."""

from typing import Any

from tornado.httputil import HTTPConnection

from tornado_members.http1.exchange import Exchange


def cache_of(connection: HTTPConnection | None) -> dict[object, Any]:
    """Return the cache of a request: that of the previous request if its headers were the same.

    Only the HTTP server of this project detects that. Otherwise, the cache is empty.
    """
    return connection.head.cache if isinstance(connection, Exchange) else {}
