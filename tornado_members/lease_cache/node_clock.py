"""The clock of a node, by which the age of a tombstone is counted.

Memcached reports how many seconds a value has left, but not the time. So one value that lives for
thirty days is kept on each node: the seconds that it has left are a clock that counts down. A
tombstone contains the reading of this clock from which the seconds of its marks are counted. The
reading is made before the tombstone is stored, so the time between the two is counted, too, however
often a tombstone is stored again.

The value is a random word. If it expires or is evicted, the next writer stores another one. The age
of tombstones with a reading of another clock is counted from when they were stored.
"""

from collections.abc import Callable

from tornado_members.lease_cache.commands import MAX_TTL, Held, Put
from tornado_members.lease_cache.entries import Reading, Tombstone


class NodeClock:
    """The clock of one node."""

    def __init__(self, key: bytes, word: Callable[[], bytes]) -> None:
        """`key` is that of the value; `word` returns a random word."""
        self.key = key
        self._word = word

    def read(self, held: Held | None) -> Reading | None:
        """Return the reading from the value that was found under the key; None without a value."""
        if held is None or held.seconds_left is None:
            return None
        return Reading(held.value, held.seconds_left)

    def start(self) -> Put:
        """Return the command that starts the clock, unless another process has."""
        return Put(self.key, self._word(), MAX_TTL)


def age(tombstone: Tombstone, held: Held, now: Reading | None) -> int:
    """Return the seconds that have passed of those of a tombstone's marks, never too many.

    `held` is what was found with the tombstone, and `now` is an earlier reading of the clock. The
    result is negative if the tombstone was stored in between, with a later reading.
    """
    if now is not None and tombstone.at is not None and tombstone.at.clock == now.clock:
        return tombstone.at.seconds_left - now.seconds_left
    if held.seconds_left is None:
        return 0
    return max(0, tombstone.ttl - held.seconds_left)
