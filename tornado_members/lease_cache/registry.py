"""The processes that share a cache, and the list of servers that they use.

A key lives on one node, which the list decides. So processes with different lists would not see
each other's tombstones. All of them use the *list in force*, which is kept in a store that they
share. `server_lists.py` describes how one list replaces another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tornado_members.lease_cache.placement import digest


@dataclass(frozen=True, slots=True)
class ServerList:
    """The list in force.

    Nodes keep its id beside their epoch, so that a process with another list does not read them.
    """

    id: str  # 16 hexadecimal digits; no two lists that were ever in force share one
    servers: tuple[str, ...]  # addresses, sorted
    # The list before this one, while a process may still use that; None afterwards.
    replaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """A process that may write."""

    process: str
    wanted: tuple[str, ...]  # the addresses in its settings, sorted
    list_id: str | None  # of the list that all of its writes use; None until it knows one
    nonce: str  # changes each time that the process renews the registration
    writes_end_after: float  # seconds, from the beginning of any write of it to its commit


class Registry(Protocol):
    """A store that all processes share. Each method raises StoreUnavailable after a timeout."""

    async def register(self, registration: Registration) -> None:
        """Store a registration durably, in place of an earlier one of the process."""

    async def renew(self, registration: Registration) -> bool:
        """Replace the registration of the process; False if it no longer has one."""

    async def remove(self, registration: Registration) -> None:
        """Remove a registration, unless it was renewed since it was read."""

    async def read(self) -> Sequence[Registration]:
        """Return the registrations of all processes."""

    async def list_in_force(self) -> ServerList | None:
        """Return the list in force; None if there has never been one."""

    async def replace_list(self, new: ServerList, old: ServerList | None) -> bool:
        """Put a list into force; False if `old` is not in force any more."""


def first_list(servers: Sequence[str]) -> ServerList:
    """Return the list of the first process of a cache. Its id is the digest of the addresses."""
    return ServerList(digest(" ".join(sorted(servers)).encode(), size=8).hex(), canonical(servers))


def canonical(servers: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses in the order in which lists are compared."""
    return tuple(sorted(set(servers)))
