"""A client of services behind a reverse proxy, and load through it."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from tests.support.proxies import Proxy

# Clients connect from here, so that a service can distinguish them from the proxy, which it trusts.
ADDRESS: Final = "127.0.0.3"
_SECONDS: Final = 60


class ProxyClient:
    """Sends requests with full rights through a proxy."""

    def __init__(self, proxy: Proxy, token: str) -> None:
        self.proxy = proxy
        self.headers = {"Authorization": f"Bearer {token}"}

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, which opens with its first request and is then kept."""
        address = self.proxy.address
        return http.client.HTTPConnection(*address, timeout=_SECONDS, source_address=(ADDRESS, 0))

    def connect_socket(self, receive_buffer: int | None = None) -> socket.socket:
        """Return a connection, with a receive buffer of that many bytes."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(_SECONDS)
        connection.bind((ADDRESS, 0))
        connection.connect(self.proxy.address)
        return connection

    def head(self, method: str, target: str, headers: dict[str, str]) -> bytes:
        """Return the head of a request, for a client that sends the rest itself."""
        fields = {"Host": "localhost", **self.headers, **headers}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {v}" for name, v in fields.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one request over its own connection; return the status, headers and body."""
        connection = self.connect()
        try:
            encoded = None if body is None else json.dumps(body)
            sent = {"Content-Type": "application/json", **self.headers, **(headers or {})}
            connection.request(method, path, encoded, sent)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def make_member(self, name: str) -> str:
        """Create a member; return its path."""
        status, headers, body = self("POST", "/members", {"name": name})
        assert status == 201, body
        return headers["Location"]

    def import_rows(self, rows: bytes, query: str, pause: float = 0.01) -> list[bytes]:
        """Import, reading while sending; return the lines of the response, which may be cut off."""
        with self.connect_socket() as connection, ThreadPoolExecutor(1) as pool:
            headers = {"Content-Type": "text/csv", "Content-Length": str(len(rows))}
            connection.sendall(self.head("POST", f"/members/import?{query}", headers))

            def send_slowly() -> None:
                try:
                    for start in range(0, len(rows), 4096):
                        connection.sendall(rows[start : start + 4096])
                        time.sleep(pause)
                except OSError:
                    pass  # the proxy has stopped reading; its response shows the outcome

            sending = pool.submit(send_slowly)
            response = http.client.HTTPResponse(connection)
            response.begin()
            try:
                content = response.read()
            except http.client.IncompleteRead as cut:
                content = cut.partial
            sending.result()
        assert response.status == 200, content
        return content.splitlines()


@dataclass
class Load:
    """Clients that read one path over kept connections, until the end of the block."""

    client: ProxyClient
    path: str
    pause: float = 0.002  # seconds between two requests of a client
    clients: int = 4
    statuses: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # requests without a response

    def __enter__(self) -> Self:
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = self.client.connect()
        while not self._is_over.wait(self.pause):
            try:
                connection.request("GET", self.path, headers=self.client.headers)
                response = connection.getresponse()
                response.read()
                self.statuses.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()
