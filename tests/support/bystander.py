"""A client that waits while others attack: the latency of its requests, in processor time.

Wall-clock latency depends on the other load of the machine. The processor time that the worker's
event loop uses between a request and its response does not: it is the work of the loop before it
reached the request, plus the request itself. (If the client is not scheduled for a while, it
measures more when the loop has work, so attacks should end soon.)
"""

import http.client
import threading
from collections.abc import Callable
from typing import Self

import psutil


def event_loop_clock(service: psutil.Process) -> Callable[[], float]:
    """Return a clock of the processor time of a service's event loop, in seconds.

    The service has one worker, whose main thread runs the loop.
    """
    (worker,) = [process for process in service.children() if "python" in process.name()]
    path = f"/proc/{worker.pid}/task/{worker.pid}/schedstat"

    def clock() -> float:
        with open(path, encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9

    return clock


class Bystander:
    """Sends one request after another, from its own thread, during a `with` block."""

    def __init__(
        self, port: int, path: str, headers: dict[str, str], clock: Callable[[], float]
    ) -> None:
        """`clock` returns the seconds by which latency is measured."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._request = (path, headers)
        self._clock = clock
        self._worst = 0.0
        self._responses = 0
        self._responded = threading.Condition()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def reset(self) -> None:
        """Start the measurement again."""
        with self._responded:
            self._worst = 0.0

    def worst(self) -> float:
        """Return the longest latency since `reset`, in seconds, after another two responses."""
        with self._responded:
            enough = self._responses + 2
            self._responded.wait_for(lambda: self._responses >= enough or self.failure)
            worst = self._worst
        if self.failure is not None:
            raise self.failure
        return worst

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._send()
        except Exception as error:  # noqa: BLE001  # worst() raises it
            with self._responded:
                self.failure = error
                self._responded.notify()

    def _send(self) -> None:
        path, headers = self._request
        began = self._clock()
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        response.read()
        latency = self._clock() - began
        assert response.status == 200, response.status
        with self._responded:
            self._worst = max(self._worst, latency)
            self._responses += 1
            self._responded.notify()
