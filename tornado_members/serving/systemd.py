"""Telling systemd how the service is (sd_notify(3)): a datagram to the socket that it names."""

import socket
import time
from collections.abc import MutableMapping
from logging import getLogger

log = getLogger(__name__)


class Notifier:
    """Sends states where systemd, or whoever else named a socket, waits for them."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes NOTIFY_SOCKET out of `environment`: what we start has nothing to say there."""
        self._address = environment.pop("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """It serves, and has taken up its settings."""
        self._send("READY=1")

    def reloading(self) -> None:
        """It takes up new settings; `ready` says when that is over."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It is on its way out."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte of the abstract namespace.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
                teller.sendto(state.encode(), address)
        except OSError as error:
            log.warning("NOTIFY_SOCKET: %s could not be told: %s", self._address, error)
