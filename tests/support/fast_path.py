"""Responses of the fast path and of the handlers, to compare them."""

import re

from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate

from tests.support.api import token_of
from tests.support.wire import AnyServer, bare_connection
from tornado_members.app import make_app
from tornado_members.handlers.member_cache import MemberCacheApplication
from tornado_members.services import Services


class Counting(HTTPServerConnectionDelegate):
    """An application that counts its requests."""

    def __init__(self, application: HTTPServerConnectionDelegate) -> None:
        self.application = application
        self.requests = 0

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        self.requests += 1
        return self.application.start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)


def make_counting_app(services: Services) -> MemberCacheApplication:
    """Return the application of a service, which counts the requests behind its fast path."""
    app = make_app(services)
    assert isinstance(app, MemberCacheApplication)
    app.application = Counting(app.application)
    return app


def masked(answer: bytes) -> bytes:
    """Return the bytes of a response without the values that differ from one to the next."""
    answer = re.sub(rb"(?m)^(Date|X-Request-Id): .*\r$", rb"\1: -\r", answer)
    return re.sub(rb'"requestId": "[^"]*"', b'"requestId": "-"', answer)


def undated(answer: bytes) -> bytes:
    """Return a response without Last-Modified, which it has once the member is two seconds old."""
    return re.sub(rb"(?m)^Last-Modified: .*\r\n", b"", answer)


async def response_to(http_server: AnyServer, path: str, headers: dict[str, str]) -> bytes:
    """Return the bytes of one response."""
    fields = {"Host": "a.example", "Authorization": f"Bearer {token_of(3)}", **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
    async with bare_connection(http_server) as (reader, writer):
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return await reader.read()
