"""Replaces the list of servers of a cache while processes read and write.

Every process uses the list in force, even if its settings contain another one. A list is replaced
when the settings of all processes contain the same other one:

1. A process puts the new list into force, as the one that *replaces* the old list.
2. Each process that finds this stops reading the cache, and announces its writes on the nodes of
   both lists. When all of its earlier writes are over, it *confirms* the new list.
3. When all registered processes have confirmed, one gives every node a new epoch with the id of
   the new list. Then the old list is gone, and all processes read the nodes of the new one.

No read is stale, because
- while a process may still read by the old list, all writes place tombstones by it, and no process
  reads by the new one;
- a process reads by the new list only after all writes that are announced by the old one alone;
- a process that was not waited for finds another id beside the epoch of each node (protocol.py),
  and may not write before it has registered again.

Processes are waited for while they are registered. A process renews its registration, and another
process removes it only when its owner can no longer have writes. No clock of two machines is
compared: a process measures how long it may write from before it renewed, and others measure how
long the registration has not changed from after they read it.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from logging import getLogger
from typing import Protocol

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.errors import StoreUnavailable
from tornado_members.lease_cache.registry import (
    Registration,
    Registry,
    ServerList,
    canonical,
    first_list,
)

log = getLogger(__name__)

VALID_SECONDS = 15.0  # for which a registration is valid, from before it is renewed
_RENEW_SECONDS = 5.0
_CHANGE_SECONDS = 0.5  # between two reads while a list is to be replaced
_FRESH_SECONDS = 2.0  # for which a read of the list in force counts as current


class Nodes(Protocol):
    """The nodes of this process."""

    async def use(self, in_force: ServerList) -> None:
        """Use the nodes of the list, and those of the one that it replaces.

        Returns when all writes that began before are over.
        """

    async def claim(self) -> None:
        """Give every node an epoch with the id of the list in force. Raises StoreUnavailable."""


@dataclass(slots=True)
class _Seen:
    """A registration of another process, and when it was first seen as it is."""

    registration: Registration
    since: float


class ServerLists:
    """The list in force, as known to this process, and the registration of the process."""

    def __init__(
        self,
        registry: Registry,
        nodes: Nodes,
        *,
        process: str,
        wanted: Sequence[str],
        writes_end_after: float,
        now: Callable[[], float] = clock,
    ) -> None:
        """`writes_end_after` is the seconds from the beginning of a write to its commit."""
        self.in_force: ServerList | None = None
        self.processes: tuple[Registration, ...] = ()  # those registered at the last read
        self._registry = registry
        self._nodes = nodes
        self._process = process
        self._wanted = canonical(wanted)
        self._writes_end_after = writes_end_after
        self._now = now
        self._registration: Registration | None = None  # as it is stored
        self._valid_until = float("-inf")
        self._confirmed_at = float("-inf")  # start of the last read that found our list
        self._is_outdated = False  # the last read found another list
        self._seen: dict[str, _Seen] = {}
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Register, use the list in force, and take part in changes from now on."""
        with suppress(StoreUnavailable):
            await self._take_turn()
        self._running = asyncio.create_task(self._run())

    async def close(self, *, may_still_write: bool) -> None:
        """Withdraw the registration, unless a write of this process may still commit."""
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])
        if self._registration and not may_still_write:
            with suppress(StoreUnavailable):  # other processes remove it later
                await self._registry.remove(self._registration)

    @property
    def conflict(self) -> str | None:
        """Describe how the list in force differs from the settings; None if it does not."""
        if self.in_force is None:
            return "is not known yet: MongoDB has not answered"
        if self.in_force.replaces is not None:
            return "is being replaced; members are read from MongoDB until all processes know it"
        if self.in_force.servers == self._wanted:
            return None
        others = sum(one.wanted != self._wanted for one in self.processes)
        return (
            f"cache.servers is {_written(self._wanted)} here, but the cache uses "
            f"{_written(self.in_force.servers)} until all processes have the same setting: "
            f"{others} of {len(self.processes)} have another"
        )

    def is_fresh(self) -> bool:
        """True if the list was found to be in force just now: then its id may be put on a node."""
        return self._now() - self._confirmed_at < _FRESH_SECONDS

    async def ensure_registered(self) -> None:
        """Return when this process may begin a write. Raises StoreUnavailable."""
        if self._now() >= self._valid_until:
            await self._take_turn()

    async def registered(self) -> Sequence[str]:
        """Read the names of all processes that may have writes. Raises StoreUnavailable."""
        return [one.process for one in await self._registry.read()]

    async def confirm(self) -> None:
        """Check that our list is in force. Raises StoreUnavailable if it is not, or not known."""
        began = self._now()
        found = await self._registry.list_in_force()
        if found != self.in_force or found is None:
            self._is_outdated = True
            self._wake.set()
            raise StoreUnavailable("another list of servers is in force")
        self._confirmed_at = began

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._take_turn()
            except StoreUnavailable:  # MongoDB is unavailable, which health reports
                pass
            except Exception:
                log.exception("reading the list of cache servers failed; trying again")

    def _is_settled(self) -> bool:
        """True if the list in force is that of the settings, and replaces no other."""
        in_force = self.in_force
        return in_force is not None and (in_force.servers, in_force.replaces) == (
            self._wanted,
            None,
        )

    def _registration_is_of_another_list(self) -> bool:
        """True if this process began to use the list in force, and has not confirmed it."""
        return self._registration is None or (
            self.in_force is not None and self._registration.list_id != self.in_force.id
        )

    def _pause(self) -> float:
        return _RENEW_SECONDS if self._is_settled() else _CHANGE_SECONDS

    async def _take_turn(self) -> None:
        """Renew the registration, and take the next step of a change. Raises StoreUnavailable."""
        async with self._turn:
            if not await self._renew():
                await self._register()
            await self._read_state()
            while await self._advance():
                await self._read_state()

    async def _renew(self) -> bool:
        """Renew the registration; False if there is none."""
        if self._registration is None:
            return False
        return await self._store(self._registration.list_id)

    async def _register(self) -> None:
        """Register, then read the list in force: a change waits for this process from now on."""
        self._registration = None
        registration = self._made(None)
        await self._registry.register(registration)
        self._registration = registration
        # Writes may begin only when this has succeeded: before, they might use another list.
        await self._use(await self._find_list())

    async def _find_list(self) -> ServerList:
        """Return the list in force. The first process of a cache puts its own into force."""
        while True:
            began = self._now()
            found = await self._registry.list_in_force()
            if found is not None:
                self._confirmed_at = began
                return found
            await self._registry.replace_list(first_list(self._wanted), None)

    async def _use(self, found: ServerList) -> None:
        """Use a list; confirm it when all earlier writes of this process are over."""
        if self.in_force is not None and found != self.in_force:
            change = "are in use" if found.replaces is None else "are about to be used"
            log.info("the cache servers %s %s", _written(found.servers), change)
        self.in_force = found
        await self._nodes.use(found)
        if not await self._store(found.id):
            raise StoreUnavailable("other processes regarded this process as ended")

    async def _store(self, list_id: str | None) -> bool:
        began = self._now()
        registration = self._made(list_id)
        is_stored = await self._registry.renew(registration)
        if not is_stored:  # another process regarded this one as ended
            self._valid_until = float("-inf")
            self._registration = None
            return False
        self._registration = registration
        if list_id is not None:
            self._valid_until = began + VALID_SECONDS
        return True

    def _made(self, list_id: str | None) -> Registration:
        nonce = secrets.token_hex(8)
        return Registration(self._process, self._wanted, list_id, nonce, self._writes_end_after)

    async def _read_state(self) -> None:
        """Read the registrations; remove those of processes that have ended."""
        registered = await self._registry.read()
        now = self._now()
        self._seen = {
            one.process: seen
            if (seen := self._seen.get(one.process)) and seen.registration == one
            else _Seen(one, now)
            for one in registered
        }
        for process, seen in list(self._seen.items()):
            lasts = VALID_SECONDS + max(seen.registration.writes_end_after, self._writes_end_after)
            if process != self._process and now - seen.since > lasts:
                log.warning("process %s ended without leaving the cache", process)
                await self._registry.remove(seen.registration)
                del self._seen[process]
        self.processes = tuple(seen.registration for seen in self._seen.values())

    async def _advance(self) -> bool:
        """Take the next step of a change; False if there is none."""
        if self._is_settled() and not self._is_outdated:
            return False
        found = await self._find_list()
        self._is_outdated = False
        if found != self.in_force or self._registration_is_of_another_list():
            await self._use(found)
            return True
        if found.replaces is not None:
            if any(one.list_id != found.id for one in self.processes):
                return False
            await self._nodes.claim()
            return await self._registry.replace_list(replace(found, replaces=None), found)
        if any(one.wanted != self._wanted for one in self.processes):
            return False
        new = ServerList(secrets.token_hex(8), self._wanted, replaces=found.servers)
        return await self._registry.replace_list(new, found)


def _written(servers: Sequence[str]) -> str:
    return f"[{', '.join(servers)}]"
