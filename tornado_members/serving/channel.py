"""What the supervisor and a worker have to tell each other, over a pair of sockets."""

import socket
from contextlib import suppress
from typing import Self

# To a worker.
STOP = b"S"  # the whole service stops
REPLACE = b"R"  # another worker has taken its place
# From a worker.
READY = b"+"
FAILED = b"-"  # and then the reason, in UTF-8

_MOST = 64 * 1024


class Channel:
    """One end: every message is a datagram, and the other process's end is an empty one."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Two ends; each process closes the one that is not its own."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one), cls(other)

    def fileno(self) -> int:
        """For whoever waits for messages."""
        return self._end.fileno()

    def tell(self, message: bytes) -> None:
        """Send one; nothing happens if nobody is there any more."""
        with suppress(OSError):
            self._end.send(message[:_MOST])

    def hear(self) -> bytes | None:
        """The next one; empty at the end, None while there is none."""
        try:
            return self._end.recv(_MOST)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Close this end."""
        self._end.close()
