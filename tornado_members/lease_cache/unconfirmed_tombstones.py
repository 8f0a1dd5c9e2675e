"""Tombstones of one process that a node did not confirm.

- A write whose tombstones could not be placed may still commit. They are placed as soon as the node
  replies, before it gets a new epoch: a reader would store under the new epoch what the commit
  replaces.
- A mark whose removal was not confirmed keeps all readers from its key until it expires. A mark
  whose placing was not confirmed may exist, too: a node that was suspended executes the commands
  in its sockets when it continues. Both are removed as soon as the node replies.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice

from tornado_members.lease_cache.protocol import LeaseProtocol

_MOST_UNREMOVED = 1000  # writes; the marks of further ones expire
_REMOVED_AT_ONCE = 50  # writes, in one request


@dataclass(slots=True)
class UnplacedTombstones:
    """The keys on which a write still has no tombstone."""

    keys: set[bytes]
    is_over: bool = False  # the write has ended, and its outcome is known
    # If no caller waits for the write any more: when it has been committed, or never will be.
    abandoned_until: float | None = None


class UnconfirmedTombstones:
    """The tombstones to place and those to remove, by writer."""

    def __init__(self, protocol: LeaseProtocol, now: Callable[[], float]) -> None:
        self.unplaced: dict[bytes, UnplacedTombstones] = {}
        self.unremoved: dict[bytes, frozenset[bytes]] = {}
        self._protocol = protocol
        self._now = now

    def __bool__(self) -> bool:
        """True if there is anything to place or to remove."""
        return bool(self.unplaced or self.unremoved)

    def place_later(self, keys: Collection[bytes], writer: bytes) -> UnplacedTombstones:
        """Note the tombstones of a write; the result shows which of them are not placed yet."""
        unplaced = self.unplaced[writer] = UnplacedTombstones(set(keys))
        return unplaced

    def remove_later(self, keys: Collection[bytes], writer: bytes) -> None:
        """Note the marks of a write that has committed, or never will."""
        self.end(writer)
        if len(self.unremoved) < _MOST_UNREMOVED:
            self.unremoved[writer] = frozenset(keys)

    def end(self, writer: bytes) -> None:
        """Place no more tombstones of a write: it has committed, or never will."""
        unplaced = self.unplaced.pop(writer, None)
        if unplaced:
            unplaced.keys.clear()
            unplaced.is_over = True

    def abandon(self, writer: bytes, may_commit_until: float) -> None:
        """Place the tombstones of a write only while it may commit: no caller waits for it."""
        unplaced = self.unplaced.pop(writer, None)
        if unplaced and unplaced.keys and self._now() < may_commit_until:
            unplaced.abandoned_until = may_commit_until
            self.unplaced[writer] = unplaced

    async def place(self) -> None:
        """Place the tombstones of writes that are under way. Raises NodeUnavailable."""
        for writer, unplaced in list(self.unplaced.items()):
            until = unplaced.abandoned_until
            if until is not None and until <= self._now():
                self.unplaced.pop(writer, None)
            elif unplaced.keys:
                await self._place(writer, unplaced)

    async def _place(self, writer: bytes, unplaced: UnplacedTombstones) -> None:
        keys = frozenset(unplaced.keys)
        try:
            await self._protocol.place_tombstones(keys, writer)
            unplaced.keys.clear()
        finally:
            if unplaced.is_over:  # it ended meanwhile, and may have found none to remove
                self.remove_later(keys, writer)
        if unplaced.abandoned_until is not None:
            self.unplaced.pop(writer, None)

    async def remove(self) -> None:
        """Remove the marks of writes that are over. Raises NodeUnavailable."""
        while self.unremoved:
            some = dict(islice(self.unremoved.items(), _REMOVED_AT_ONCE))
            writers: dict[bytes, list[bytes]] = {}
            for writer, keys in some.items():
                for key in keys:
                    writers.setdefault(key, []).append(writer)
            await self._protocol.remove_marks(writers)
            for writer in some:
                self.unremoved.pop(writer, None)
