"""What a server takes from its clients: how much, and for how long."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    connections: int = 10_000  # at once; for further ones, silent ones make room
    connections_per_address: int = 0  # at once; 0 is no limit

    request_line_bytes: int = 8 * KIB
    head_bytes: int = 16 * KIB  # the request line and all headers
    headers: int = 100
    body_bytes: int = 100 * KIB * KIB  # for requests that set no limit of their own
    piece_bytes: int = 64 * KIB  # of a body, handed to the application at once
    body_buffer_bytes: int = 256 * KIB * KIB  # of bodies that applications hold, all together
    response_buffer_bytes: int = 256 * KIB * KIB  # of answers that wait for clients to read
    discard_bytes: int = KIB * KIB  # of a body that was answered unread, to keep its connection
    read_ahead_bytes: int = 64 * KIB  # of what follows a request that is not answered yet

    idle_seconds: float = 60  # without a request
    head_seconds: float = 10  # from the first byte of a head to its last
    body_seconds: float = 10  # without a byte of a body that is waited for; and in all, besides
    body_bytes_per_second: float = KIB  # what a body may take as long as
    write_seconds: float = 30  # without a byte taken by the client
    write_bytes_per_second: float = KIB  # that a client reads at least, after write_seconds
    orphan_seconds: float = 60  # for an answer to a client that has closed its side
    linger_seconds: float = 5  # for reading what is thrown away, so that the client hears why
    handshake_seconds: float = 10  # TLS

    @property
    def shortest_seconds(self) -> float:
        """The time-out that passes first."""
        return min(
            self.idle_seconds,
            self.head_seconds,
            self.body_seconds,
            self.write_seconds,
            self.orphan_seconds,
            self.linger_seconds,
        )
