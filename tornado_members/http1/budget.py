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

    def add(self, size: int) -> bool:
        """Count `size` bytes more; return False if they exceed the limit."""
        self.used += size
        return self.used <= self.limit

    def release(self, size: int) -> None:
        """Count `size` bytes less."""
        self.used -= size


class SharedBytesBudget(ByteBudget):
    """Counts bytes objects that wait to be sent, each once for all connections it waits for."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        super().__init__(limit)
        self._holders: dict[int, int] = {}  # by the object's id: how often it is held

    def hold_data(self, data: bytes) -> None:
        """Count `data` as held once more."""
        holders = self._holders.get(id(data), 0)
        self._holders[id(data)] = holders + 1
        if not holders:
            self.add(len(data))

    def release_data(self, data: bytes) -> None:
        """Count `data` as held once less."""
        holders = self._holders[id(data)] - 1
        if holders:
            self._holders[id(data)] = holders
        else:
            del self._holders[id(data)]
            self.release(len(data))
