"""Memory that the connections of one server may use together."""


class ByteBudget:
    """Counts bytes that are held in memory, against a limit."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self.limit = limit
        self.used = 0

    @property
    def is_exceeded(self) -> bool:
        """True if more bytes are held than the limit allows."""
        return self.used > self.limit

    def add(self, size: int) -> None:
        """Count `size` bytes more."""
        self.used += size

    def release(self, size: int) -> None:
        """Count `size` bytes less."""
        self.used -= size
