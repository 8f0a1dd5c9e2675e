"""Hosts as network namespaces, and a router between them that delays, loses and drops packets.

Run as a process: `python -m tests.support.router NAME=ADDRESS ...`. It creates a namespace per host
whose only link is a TUN device, and forwards the packets itself: kernels without netem can do this,
too, and each pair of hosts has faults of its own. The namespaces have no names. They end with this
process and the programs in them, however that happens.

It prints `{NAME: FILE}`: `nsenter --net=FILE` enters a host. Then each line of its input is a list
of `[FROM, TO, SHARE_LOST, SECONDS_OF_DELAY]`, which replaces the one before; it responds with `ok`.
It ends with its input.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MTU = 9000
_ADDRESSES = slice(12, 16), slice(16, 20)  # of the source and of the destination, in IPv4's header
_MOST_HELD = 20_000  # delayed packets

Link = tuple[bytes, bytes]  # two addresses


def enter(file: str | int) -> None:
    """Move this thread into a network namespace."""
    descriptor = os.open(file, os.O_RDONLY) if isinstance(file, str) else file
    _call("setns", descriptor, _CLONE_NEWNET)
    if isinstance(file, str):
        os.close(descriptor)


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        raise OSError(ctypes.get_errno(), f"{name} failed")


def make_host(address: str) -> tuple[int, int]:
    """Create a namespace with this address; return the descriptors of it and of its TUN device."""
    _call("unshare", _CLONE_NEWNET)
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
    for command in (
        "link set lo up",
        f"link set tun0 mtu {_MTU} up",
        f"address add {address}/24 dev tun0",
    ):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)
    return namespace, tun


class Router:
    """Forwards packets between TUN devices."""

    def __init__(self, devices: dict[bytes, int]) -> None:
        """`devices` are the descriptors by address."""
        self.faults: dict[Link, tuple[float, float]] = {}  # the share that is lost, and the delay
        self._devices = devices
        self._held: list[tuple[float, int, bytes]] = []  # packets, by when they are due
        self._count = 0
        self._chance = random.Random(0)

    def forward(self, device: int) -> None:
        """Forward all packets that a device has."""
        while True:
            try:
                packet = os.read(device, 65536)
            except BlockingIOError:
                return
            source, target = (packet[part] for part in _ADDRESSES)
            share, delay = self.faults.get((source, target), (0.0, 0.0))
            if target not in self._devices or (share and self._chance.random() < share):
                continue
            if delay and len(self._held) < _MOST_HELD:
                self._count += 1
                heapq.heappush(self._held, (time.monotonic() + delay, self._count, packet))
            elif not delay:
                self._deliver(packet)

    def deliver_due(self) -> float | None:
        """Deliver the packets that are due; return the seconds until the next one, if any."""
        while self._held:
            left = self._held[0][0] - time.monotonic()
            if left > 0:
                return left
            self._deliver(heapq.heappop(self._held)[2])
        return None

    def _deliver(self, packet: bytes) -> None:
        with suppress(BlockingIOError):  # the queue of the host is full, and it loses a packet
            os.write(self._devices[packet[_ADDRESSES[1]]], packet)


def main(hosts: Sequence[str]) -> None:
    """Create the hosts, and route until the input ends."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    addresses = dict(host.split("=") for host in hosts)
    made = {name: make_host(address) for name, address in addresses.items()}
    enter(own)
    _write_line(
        json.dumps({name: f"/proc/{os.getpid()}/fd/{one[0]}" for name, one in made.items()})
    )
    number = {name: socket.inet_aton(address) for name, address in addresses.items()}
    router = Router({number[name]: device for name, (_, device) in made.items()})
    poll = select.epoll()
    poll.register(0, select.EPOLLIN | select.EPOLLHUP)
    for _, device in made.values():
        poll.register(device, select.EPOLLIN)
    while True:
        left = router.deliver_due()
        for ready, _ in poll.poll(left):
            if ready:
                router.forward(ready)
                continue
            line = sys.stdin.readline()
            if not line:
                return
            router.faults = {
                (number[source], number[target]): (share, delay)
                for source, target, share, delay in json.loads(line)
            }
            _write_line("ok")


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
