"""A registry of the processes of a cache in memory, for the caches of one test."""

import os
from collections.abc import Sequence

from tornado_members.lease_cache.registry import Registration, ServerList

_of_tests: "dict[str, MemoryRegistry]" = {}


class MemoryRegistry:
    """Works as storage/cache_registry.py does in MongoDB."""

    def __init__(self) -> None:
        self.processes: dict[str, Registration] = {}
        self.list: ServerList | None = None

    @classmethod
    def of_this_test(cls) -> "MemoryRegistry":
        """Return the registry that all open caches of the running test share."""
        test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
        registry = _of_tests.get(test)
        if registry is None or not registry.processes:
            _of_tests.clear()
            registry = _of_tests[test] = cls()
        return registry

    async def register(self, registration: Registration) -> None:
        self.processes[registration.process] = registration

    async def renew(self, registration: Registration) -> bool:
        if registration.process not in self.processes:
            return False
        self.processes[registration.process] = registration
        return True

    async def remove(self, registration: Registration) -> None:
        if self.processes.get(registration.process) == registration:
            del self.processes[registration.process]

    async def read(self) -> Sequence[Registration]:
        return list(self.processes.values())

    async def list_in_force(self) -> ServerList | None:
        return self.list

    async def replace_list(self, new: ServerList, old: ServerList | None) -> bool:
        if self.list != old:
            return False
        self.list = new
        return True
