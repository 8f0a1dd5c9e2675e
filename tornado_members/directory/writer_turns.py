"""Turns of the writers of one member in one process.

Writers that write at once add themselves to the member's tombstone one after another, since each
stores it by compare-and-set. And each that read the member before its write finds that another one
has changed it. So n writers at once would send n² commands and n² attempts.

A turn only saves work. MongoDB and the tombstones order the writes of all processes, with or
without it. So a writer does not wait for long: while MongoDB hangs, all writers fail together.

For the same reason a turn passes on the member as its writer has written it: the next writer need
not read it, and MongoDB refuses its write if another process has changed the member since.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from tornado_members.model.member import Member


class MemberTurns:
    """The turns of one member."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.written: Member | None = None  # by the last writer, if it is known


class WriterTurns:
    """Lets the writers of a member take turns."""

    def __init__(self, patience: float = 1.0) -> None:
        """`patience` is the time in seconds after which a writer proceeds without its turn."""
        self._patience = patience
        self._turns: WeakValueDictionary[int, MemberTurns] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, member_id: int) -> AsyncIterator[MemberTurns]:
        """Write a member in this block, which may not take another turn."""
        turns = self._turns.setdefault(member_id, MemberTurns())
        has_turn = await self._acquire(turns.lock)
        try:
            yield turns
        finally:
            if has_turn:
                turns.lock.release()

    async def _acquire(self, lock: asyncio.Lock) -> bool:
        if not lock.locked():
            return await lock.acquire()
        try:
            async with asyncio.timeout(self._patience):
                return await lock.acquire()
        except TimeoutError:
            return False
