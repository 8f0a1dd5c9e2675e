"""Requests that the server refuses on its own, and the responses to them."""

from collections.abc import Callable, Mapping
from http import HTTPStatus


class Refused(Exception):
    """The request is not served."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        """`reason` is a sentence for the client."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BodyOverLimit(Refused):
    """The body is longer than its limit, or announced to be."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        reason = f"The body of this request may have at most {limit} bytes."
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        self.limit = limit


class TooManyBodies(Refused):
    """The server has no memory left for the body."""

    def __init__(self) -> None:
        reason = "The server holds too many request bodies. Try again later."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, reason)


class TooManyConnections(Refused):
    """The address of the client has the maximum number of connections."""

    def __init__(self) -> None:
        reason = "This address has too many connections. Reuse them, or try again later."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, reason)


# Returns the headers and the body of a response, without Content-Length and Connection. The second
# argument is the peer's IP address; "0.0.0.0" on a Unix socket, as in Tornado. The third one is the
# request's Origin header, if it has arrived.
Render = Callable[[Refused, str, str | None], tuple[Mapping[str, str], bytes]]


def render_plainly(
    refused: Refused, _peer: str, _origin: str | None
) -> tuple[Mapping[str, str], bytes]:
    """Render the reason as a line of text."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return headers, f"{refused.reason}\n".encode()


def whole_response(
    refused: Refused, headers: Mapping[str, str], body: bytes, *, with_body: bool
) -> bytes:
    """Return the bytes of the response, which is the last one on its connection."""
    lines = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body if with_body else b"")
