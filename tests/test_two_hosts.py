"""The promise on two hosts: network namespaces, whose links are blocked, delayed and lossy."""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import permutations

import pytest

from tests.support.network import Network, why_unavailable
from tests.support.router import enter
from tests.support.service import ROOT
from tools.two_hosts import FAULTS

SECONDS_AT_MOST = 400
SECONDS_TO_ARRIVE = 1.0  # of a packet, which takes a thousandth of that
PORT = 7007


@pytest.mark.exhaustive
async def test_promise_holds_on_two_hosts() -> None:
    """With cache.require_for_writes, no fault of the network makes a read stale.

    Each member hits again through both services after each fault.
    """
    if reason := why_unavailable():
        pytest.skip(reason)
    command = [sys.executable, "-m", "tools.two_hosts", "--strict"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(SECONDS_AT_MOST):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report = output.decode()
    assert process.returncode == 0, report
    assert "stale reads: 0, backward reads: 0" in report
    assert all(f"{kind}: every member is a hit" in report for kind in FAULTS)


def test_network_loses_the_packets_of_the_pairs_that_are_cut_apart() -> None:
    if reason := why_unavailable():
        pytest.skip(reason)
    addresses = {"a": "10.231.7.1", "b": "10.231.7.2", "c": "10.231.7.3"}
    with Network(addresses) as network, ExitStack() as stack:
        sockets = {
            name: stack.enter_context(_socket_on(network.namespaces[name], address))
            for name, address in addresses.items()
        }

        def arrives(source: str, target: str) -> bool:
            sockets[source].sendto(source.encode(), (addresses[target], PORT))
            with suppress(TimeoutError):
                return sockets[target].recv(10) == source.encode()
            return False

        pairs = [*permutations(addresses, 2)]
        assert [pair for pair in pairs if not arrives(*pair)] == []
        network.disturb([("a", "b")])
        assert [pair for pair in pairs if not arrives(*pair)] == [("a", "b"), ("b", "a")]
        network.disturb([("a", "c")], lost=0.0, delay=0.01)
        assert [pair for pair in pairs if not arrives(*pair)] == []


def _socket_on(namespace: str, address: str) -> socket.socket:
    """Return a UDP socket of a host: it stays there, and the thread that makes it ends."""

    def make() -> socket.socket:
        enter(namespace)
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((address, PORT))
        made.settimeout(SECONDS_TO_ARRIVE)
        return made

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()
