"""Heartbeats of a node: which replies count, and from which time."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.heartbeat import HeartbeatThread
from tornado_members.lease_cache.node_health import Timing

NEVER = float("-inf")


def echo(probe: bytes) -> bytes:
    """Return Memcached's reply to a probe."""
    assert probe.startswith(b"md lease_cache:echo O")
    return b"NF " + probe.split(b" ")[2]


@contextmanager
def talking(answer: Callable[[bytes], bytes]) -> Iterator[tuple[str, int]]:
    """A server that sends the reply of `answer` to each probe, byte by byte."""

    class Talker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            with suppress(ConnectionError):
                while probe := self.request.recv(100):
                    for byte in answer(probe):
                        self.request.sendall(bytes([byte]))
                        time.sleep(0.0001)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = False  # server_close() waits for them

    with Server(("127.0.0.1", 0), Talker) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server.server_address  # type: ignore[misc]
        finally:
            server.shutdown()
            serving.join()


@contextmanager
def listening(address: tuple[str, int], heartbeat: float = 60) -> Iterator[HeartbeatThread]:
    thread = HeartbeatThread(*address, pause=0.01, timeout=2, heartbeat=heartbeat)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


@pytest.mark.parametrize(
    "nonsense",
    [b"ERROR\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\r\n", b"NF O\r\n", b"NF O999\r\n"],
)
def test_heartbeat_accepts_only_the_number_of_its_probe(nonsense: bytes) -> None:
    probes = threading.Semaphore(0)

    def answer(_probe: bytes) -> bytes:
        probes.release()
        return nonsense

    with talking(answer) as address, listening(address) as thread:
        for _ in range(3):
            assert probes.acquire(timeout=10)
        assert thread.last_reply_at == thread.recovered_at == NEVER


def test_reply_that_is_sent_twice_is_not_the_reply_to_the_next_probe() -> None:
    """The server hangs after its first reply. What it sent twice arrives with the second probe."""
    ours, server = socket.socketpair()
    thread = HeartbeatThread("", 1, pause=0.01, timeout=0.1, heartbeat=60)
    thread._connection = ours
    with ours, server:
        server.sendall(b"NF O0\r\n")
        thread._probe()
        first = thread.last_reply_at
        assert first > NEVER
        server.sendall(b"NF O0\r\n")
        with pytest.raises(OSError, match="number of the probe"):
            thread._probe()
        assert thread.last_reply_at == first


def test_two_replies_at_once_count_as_none() -> None:
    ours, server = socket.socketpair()
    thread = HeartbeatThread("", 1, pause=0.01, timeout=0.1, heartbeat=60)
    thread._connection = ours
    with ours, server:
        server.sendall(2 * b"NF O0\r\n")
        with pytest.raises(OSError, match="number of the probe"):
            thread._probe()
        assert thread.last_reply_at == NEVER


def test_heartbeat_counts_from_the_probe_not_from_the_reply() -> None:
    """A hanging server may have had the probe in its buffer, so its reply may be old."""
    was_probed, may_answer = threading.Event(), threading.Event()

    def answer(probe: bytes) -> bytes:
        was_probed.set()
        assert may_answer.wait(10)
        return echo(probe)

    with talking(answer) as address, listening(address) as thread:
        assert was_probed.wait(10)
        assert thread.last_reply_at == NEVER
        while_it_waited = clock()
        may_answer.set()
        _wait_until(lambda: thread.last_reply_at > NEVER)
        assert thread.last_reply_at < while_it_waited <= thread.recovered_at


def test_heartbeat_without_a_gap_is_not_a_return() -> None:
    with talking(echo) as address, listening(address) as thread:
        _wait_until(lambda: thread.last_reply_at > NEVER)
        last_reply_at, recovered_at = thread.last_reply_at, thread.recovered_at
        _wait_until(lambda: thread.last_reply_at > last_reply_at)
        assert thread.recovered_at == recovered_at


@pytest.mark.parametrize("others_reply", [False, True])
def test_heartbeat_after_a_gap_is_a_return_unless_other_commands_had_replies(
    others_reply: bool,
) -> None:
    lost = threading.Event()

    def answer(probe: bytes) -> bytes:
        return b"" if lost.is_set() else echo(probe)  # no reply: the probe times out

    with talking(answer) as address:
        thread = HeartbeatThread(
            *address,
            pause=0.01,
            timeout=0.1,
            heartbeat=0.5,
            other_reply_at=lambda: clock() if others_reply else NEVER,
        )
        thread.start()
        try:
            _wait_until(lambda: thread.last_reply_at > NEVER)
            lost.set()
            _wait_until(lambda: clock() - thread.last_reply_at > 0.7)
            before, recovered_at = thread.last_reply_at, thread.recovered_at
            lost.clear()
            _wait_until(lambda: thread.last_reply_at > before)
            assert (thread.recovered_at == recovered_at) == others_reply
        finally:
            thread.stop()


def test_pause_between_probes_is_longer_while_the_node_is_not_read() -> None:
    is_read = True
    thread = HeartbeatThread(
        "", 1, pause=0.05, timeout=1, heartbeat=0.2, resting_pause=0.1, is_read=lambda: is_read
    )
    assert thread._next_pause() == 0.05
    is_read = False
    assert thread._next_pause() == 0.1


@pytest.mark.parametrize("timeout", [0.001, 0.02, 0.05, 0.1, 1.0])
def test_waiting_writer_notices_the_end_of_an_outage_that_a_resting_process_misses(
    timeout: float,
) -> None:
    """A time-out may be a quarter longer than its name."""
    timing = Timing(heartbeat=0.2, timeout=timeout, return_after=1.0)
    longest_outage = timing.resting_pause + 1.25 * timeout
    assert longest_outage + 2 * timing.pause + 1.25 * timeout <= timing.noticed + 1e-9
    assert timing.pause < timing.resting_pause <= 0.7 * timing.heartbeat + 1e-9


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
