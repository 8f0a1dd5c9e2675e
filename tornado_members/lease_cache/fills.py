"""Reads of several keys of one or more nodes, which are loaded in one request.

Each key is read by the rules of the lease protocol, as if it were read alone: all leases are taken
before the database is read, and each entry is stored only under its own lease. The keys are not a
snapshot: two members of a batch may be of different moments, all of which lie within the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.look_ups import Fill, Found, NotHit

T = TypeVar("T")
# Loads the entries of all given keys; None for each key that has none.
LoadMany = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, Entry | None]]]


class Filler(Protocol):
    """The methods of CacheNode and LeaseProtocol that fill keys."""

    async def begin_fills(self, look_ups: Mapping[bytes, NotHit]) -> dict[bytes, Fill]: ...  # noqa: D102
    async def end_fills(  # noqa: D102
        self, fills: Mapping[bytes, Fill], entries: Mapping[bytes, Entry | None]
    ) -> dict[bytes, Found]: ...
    async def give_up_fills(self, fills: Mapping[bytes, Fill]) -> None: ...  # noqa: D102


async def fill_many(
    nodes: Sequence[tuple[Filler, Mapping[bytes, NotHit]]], load: LoadMany
) -> dict[bytes, Found]:
    """Load all keys with one call, and store each on its node where this reader has the lease.

    Each node comes with this reader's look-ups on it. Exceptions of `load` pass through.
    """
    begun = await all_of([node.begin_fills(look_ups) for node, look_ups in nodes])
    fills = [(node, fills) for (node, _), fills in zip(nodes, begun, strict=True)]
    try:
        entries = await load([key for _, look_ups in nodes for key in look_ups])
    except (Exception, asyncio.CancelledError):
        await all_of([node.give_up_fills(its_own) for node, its_own in fills])
        raise
    found = await all_of([node.end_fills(its_own, entries) for node, its_own in fills])
    return {key: one for its_own in found for key, one in its_own.items()}


async def all_of(commands: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await several commands concurrently; usually there is only one."""
    if len(commands) == 1:
        return [await commands[0]]
    return await asyncio.gather(*commands) if commands else []
