"""Limits on the bytes of temporary files, per caller and per process."""

import asyncio
from collections import Counter
from collections.abc import Hashable


class SpoolBudget:
    """The bytes that all accounts of a process hold together, and those of each caller."""

    def __init__(self, total: int, per_caller: int) -> None:
        """Both limits are in bytes."""
        self._total = total
        self._per_caller = per_caller
        self._held: Counter[Hashable] = Counter()
        self._waiting: set[asyncio.Event] = set()

    @property
    def held(self) -> int:
        """Bytes that are reserved now."""
        return self._held.total()

    def open_account(self, caller: Hashable) -> "SpoolAccount":
        """Return an account on which one import of this caller reserves bytes."""
        return SpoolAccount(self, caller)

    def reserve(self, caller: Hashable, size: int) -> bool:
        """Reserve bytes; False if that would exceed a limit."""
        if self._held[caller] + size > self._per_caller or self.held + size > self._total:
            return False
        self._held[caller] += size
        return True

    def release(self, caller: Hashable, size: int, *, wake: bool = True) -> None:
        """Release reserved bytes, and wake the imports that wait for some."""
        self._held[caller] -= size
        if not self._held[caller]:
            del self._held[caller]
        for waiting in self._waiting if wake else ():
            waiting.set()

    async def wait(self, changed: asyncio.Event) -> None:
        """Wait until the event is set; releases set it, too."""
        self._waiting.add(changed)
        try:
            await changed.wait()
        finally:
            self._waiting.discard(changed)


class SpoolAccount:
    """The bytes that one import holds."""

    def __init__(self, budget: SpoolBudget, caller: Hashable) -> None:
        self._budget = budget
        self._caller = caller
        self._held = 0

    def reserve(self, size: int) -> bool:
        """Reserve bytes; False if that would exceed a limit."""
        if not self._budget.reserve(self._caller, size):
            return False
        self._held += size
        return True

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        if size:
            self._held -= size
            self._budget.release(self._caller, size)

    def cancel_reservation(self, size: int) -> None:
        """Release bytes that were just reserved. Wakes no others, which could wake this one."""
        self._held -= size
        self._budget.release(self._caller, size, wake=False)

    async def wait(self, changed: asyncio.Event) -> None:
        """Wait until the event is set; releases of any account set it, too."""
        await self._budget.wait(changed)

    def close(self) -> None:
        """Release all bytes."""
        self.release(self._held)
