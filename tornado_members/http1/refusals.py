"""Requests that no application gets to see, and what their senders are told."""

from collections.abc import Callable, Mapping
from http import HTTPStatus


class Refused(Exception):
    """A request that is not served: the status, and a sentence for whoever sent it."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BodyOverLimit(Refused):
    """A body that is, or announces itself as, longer than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        reason = f"A body may have at most {limit} bytes here."
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        self.limit = limit


class TooManyBodies(Refused):
    """A body for which the server has no memory left."""

    def __init__(self) -> None:
        reason = "The server holds too many request bodies. Send the request again later."
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, reason)


# Makes the headers and the body of the answer, without Content-Length and Connection.
Render = Callable[[Refused], tuple[Mapping[str, str], bytes]]


def render_plainly(refused: Refused) -> tuple[Mapping[str, str], bytes]:
    """One line of text."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    return headers, f"{refused.reason}\n".encode()


def whole_answer(refused: Refused, render: Render, *, with_body: bool) -> bytes:
    """The bytes of the answer; the connection ends behind it."""
    headers, body = render(refused)
    lines = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body if with_body else b"")
