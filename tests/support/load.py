"""Load on a service from clients that count every response, and every failure."""

import asyncio
import threading
from collections import Counter
from typing import Self

from tests.support.http_client import HttpClient, NoResponse


class Load:
    """Runs some clients against a service during a `with` block; then `failures` is complete.

    Some keep their connections, some open one per request, some pause in between; some write.
    """

    def __init__(self, port: int, token: str, clients: int = 8) -> None:
        self.answers = 0
        self.failures: Counter[str] = Counter()
        self._target = (port, token)
        self._clients = clients
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop, and wait for the responses to the last requests."""
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._run_client(number) for number in range(self._clients)))

    async def _run_client(self, number: int) -> None:
        port, token = self._target
        client = HttpClient("127.0.0.1", port, token)
        while not self._over.is_set():
            try:
                if number % 4 == 0:
                    body = b'{"phone": "%d"}' % (100 + self.answers)
                    reply = await client(b"PUT", b"/members/by-name/Load%d" % number, body)
                else:
                    reply = await client(b"GET", b"/members?limit=1")
            except NoResponse as error:
                self.failures[str(error)] += 1
                continue
            self.answers += 1
            if reply.status >= 400:
                self.failures[f"{reply.status}"] += 1
            if number % 4 == 1 or reply.headers.get(b"connection") == b"close":
                client.close()
            if number % 4 == 2:
                await asyncio.sleep(0.02)
        client.close()
