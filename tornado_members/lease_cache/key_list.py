"""Keys that begin alike, as text: an object per key would take longer than its look-up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class KeyList:
    """Distinct keys, each of which is `start` and one of `ends`, which spaces separate.

    The ends are letters and digits, at least one.
    """

    start: bytes
    ends: bytes
    count: int

    @classmethod
    def of(cls, start: bytes, ends: Sequence[bytes]) -> Self:
        """Make a list of keys with these ends."""
        return cls(start, b" ".join(ends), len(ends))

    def within(self, prefix: bytes) -> "KeyList":
        """Return the same keys with a prefix."""
        return KeyList(prefix + self.start, self.ends, self.count)

    def enclosed(self, before: bytes, after: bytes) -> bytes:
        """Return each key between two texts, one after the other."""
        before += self.start
        return before + self.ends.replace(b" ", after + before) + after

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.start + end for end in self.ends.split(b" ")])
