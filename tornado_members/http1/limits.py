"""Limits on what clients may use, in bytes and seconds."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server. Names end in their unit."""

    # Connections. At the limit, idle and slow clients make room for others.
    connections: int = 10_000
    connections_per_address: int = 0  # 0 is no limit

    # One request.
    request_line_bytes: int = 8 * KIB
    head_bytes: int = 16 * KIB  # the request line and all headers
    headers: int = 100
    body_bytes: int = 100 * KIB * KIB  # unless the application sets another limit
    piece_bytes: int = 64 * KIB  # of a body, given to the application in one call
    discard_bytes: int = KIB * KIB  # a longer body that no handler reads ends the connection
    read_ahead_bytes: int = 64 * KIB  # kept of what follows a request in progress

    # All requests together.
    body_buffer_bytes: int = 256 * KIB * KIB  # bodies that the application holds
    response_buffer_bytes: int = 256 * KIB * KIB  # responses that clients have not read

    # Time for the client.
    handshake_seconds: float = 10  # TLS
    idle_seconds: float = 75  # between requests
    head_seconds: float = 10  # from the first byte of a head to its last
    body_seconds: float = 10  # without a byte of a body; all of it may take that long, plus
    body_bytes_per_second: float = KIB  # its size divided by this rate
    write_seconds: float = 30  # without reading a byte of a response; after that time,
    write_bytes_per_second: float = KIB  # the client must have read at this rate
    orphan_seconds: float = 60  # until the response starts, after the client has stopped sending
    linger_seconds: float = 5  # to discard what the client sends after the last response

    @property
    def shortest_seconds(self) -> float:
        """The shortest time, which determines how often the server checks deadlines."""
        return min(
            self.idle_seconds,
            self.head_seconds,
            self.body_seconds,
            self.write_seconds,
            self.orphan_seconds,
            self.linger_seconds,
        )
