"""Messages between the supervisor and a worker, over a pair of sockets."""

import socket
from contextlib import suppress
from typing import Self

# From the supervisor to a worker.
STOP = b"S"  # the whole service stops
REPLACE = b"R"  # another worker replaces this one
# From a worker to the supervisor.
READY = b"+"  # followed by the cluster id of its database
FAILED = b"-"  # followed by the reason in UTF-8

_MAX_MESSAGE = 64 * 1024  # bytes


class Channel:
    """One end of a pair. Each message is a datagram.

    An empty message means that the peer has closed its end.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return two ends; each process closes the one that it does not use."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(first), cls(second)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when a message has arrived."""
        return self._end.fileno()

    def send(self, message: bytes) -> None:
        """Send a message; without effect if the peer has closed its end."""
        with suppress(OSError):
            self._end.send(message[:_MAX_MESSAGE])

    def receive(self) -> bytes | None:
        """Return the next message: None if none has arrived, empty if the peer has closed."""
        try:
            return self._end.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Close this end."""
        self._end.close()
