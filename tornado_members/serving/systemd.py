"""Notifies systemd of state changes (sd_notify(3)): one datagram to NOTIFY_SOCKET for each."""

import socket
import time
from collections.abc import MutableMapping
from logging import getLogger

log = getLogger(__name__)


class Notifier:
    """Sends state changes to NOTIFY_SOCKET, if it is set."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Removes NOTIFY_SOCKET from `environment`, so that child processes do not use it."""
        self._address = environment.pop("NOTIFY_SOCKET", "")

    def ready(self) -> None:
        """The service is ready, or has reloaded its settings."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The service is reloading its settings; ready() ends the reload."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service is stopping."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # "@" stands for the leading zero byte of an abstract socket address.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(state.encode(), address)
        except OSError as error:
            log.warning("NOTIFY_SOCKET: could not send to %s: %s", self._address, error)
