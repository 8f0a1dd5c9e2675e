"""A limit on the requests that read very many members at once.

A response with 1,000 members of 16 KiB takes some 40 MB until it is sent. Without a limit, a few
hundred such requests would exhaust the memory of the machine.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_LARGE: Final = 200  # members; requests for more take turns
_AT_ONCE: Final = 8  # more would not be faster: a process has one event loop


class LargeReads:
    """Lets large reads of a process take turns, in order of arrival."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @staticmethod
    def take_turns(members: int) -> bool:
        """Return True if reads of this many members take turns."""
        return members > _LARGE

    @asynccontextmanager
    async def turn(self, members: int) -> AsyncIterator[None]:
        """Wait until a read of this many members may begin; it ends with the block."""
        if not self.take_turns(members):
            yield
            return
        async with self._turns:
            yield
