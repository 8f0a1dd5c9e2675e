"""A ledger of debts in memory, for the caches of one test."""

from collections.abc import Sequence

from tornado_members.lease_cache.debts import Debt
from tornado_members.storage.debts import RECORD_SECONDS


class MemoryLedger:
    """Works as storage/debts.py does in MongoDB."""

    deadline = RECORD_SECONDS

    def __init__(self) -> None:
        self.debts: dict[tuple[str, str], Debt] = {}

    async def record(self, debt: Debt) -> None:
        self.debts[debt.node, debt.process] = debt

    async def remove(self, debt: Debt) -> None:
        if self.debts.get((debt.node, debt.process)) == debt:
            del self.debts[debt.node, debt.process]

    async def read(self) -> Sequence[Debt]:
        return list(self.debts.values())
