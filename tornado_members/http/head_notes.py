"""What the application derives from the headers of a request, once for repeated heads."""

from typing import Any

from tornado.httputil import HTTPConnection

from tornado_members.http1.exchange import Exchange


def notes_of(connection: HTTPConnection | None) -> dict[object, Any]:
    """Return the notes of a request: those of the previous request if its headers were the same.

    Only the HTTP server of this project detects that. Otherwise, they are empty.
    """
    return connection.head.notes if isinstance(connection, Exchange) else {}
