"""The epoch of a node, its quarantine, and the list of servers that it belongs to.

- The *epoch* is a random number under a key of its own. Entries and leases carry it. A new one
  empties the node at once, and a node that restarted has none.
- A process that finds no epoch starts a *quarantine* before a new one: the tombstones of writes
  that are still under way may have been lost with the old one. A process whose writes may take
  longer than the quarantine lasts extends it. It ends early when all processes have confirmed that
  no such write is under way (quarantine.py).
- The id of the list of servers is stored with the epoch. A process that uses another list does not
  read the node: it would not see the tombstones of the others (server_lists.py).
- So is the highest *term* of a primary of the database that a process knew. A higher one begins a
  new epoch (terms.py).
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tornado_members.lease_cache.commands import Held, Put
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.errors import NodeUnavailable, StoreUnavailable
from tornado_members.lease_cache.get_commands import EntryLines
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.node_clock import NodeClock
from tornado_members.lease_cache.placement import digest
from tornado_members.lease_cache.terms import NoTerms, TermFence

QUARANTINE, OTHER_SERVER_LIST = "quarantine", "other-server-list"  # why a node must not be used

_QUARANTINE = re.compile(rb"([0-9]{1,9})-([0-9a-f]{16})")  # seconds, and a number of its own
# The epoch, the id of the list, and the term, which is missing without elections.
_EPOCH = re.compile(rb"([0-9a-f]{16})-([0-9a-f]{16})(?:-([0-9]{1,18}))?")


class Epoch(NamedTuple):
    """The value under the key of the epoch."""

    word: bytes
    list_id: bytes
    term: int = 0

    def encode(self) -> bytes:
        """Return the value as it is stored."""
        return b"%b-%b" % self[:2] + (b"-%d" % self.term if self.term else b"")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds, whole ones as Memcached counts them."""

    entry: int
    lease: int
    # Both longer than a write may take from its announcement to its commit.
    tombstone: int
    quarantine: int


class Node(Protocol):
    """The commands of MemcachedNode that the protocol uses.

    Their results may contain the keys of other callers, too.
    """

    def get_many(self, keys: Sequence[bytes]) -> Awaitable[Mapping[bytes, bytes]]: ...
    def get_entries(
        self, before: Sequence[bytes], keys: KeyList
    ) -> Awaitable[tuple[Mapping[bytes, bytes], EntryLines | Mapping[bytes, bytes]]]: ...
    def gets_many(self, keys: Sequence[bytes]) -> Awaitable[Mapping[bytes, Held]]: ...
    def put_many(self, puts: Sequence[Put]) -> Awaitable[Sequence[int | None]]: ...


def random_word() -> bytes:
    """Return a random number, unique in practice."""
    return secrets.token_hex(8).encode()


class NodeEpoch:
    """The epoch and the quarantine of one node.

    All methods raise NodeUnavailable if the node did not confirm the request.
    """

    def __init__(
        self,
        node: Node,
        *,
        namespace: bytes,
        lifetimes: Lifetimes,
        counts: CacheCounts,
        word: Callable[[], bytes] = random_word,
        may_claim: Callable[[], bool] = lambda: True,
        fence: TermFence | None = None,
    ) -> None:
        """`may_claim` returns True if the list of this process was just found in force.

        `fence` has the terms of the database; by default it has no elections.
        """
        self.term = 0  # the one that was last found or stored here
        self.list_id = b"0" * 16  # of the list of servers that this process uses
        # Called whenever the node is found not to be usable, with the reason, and with the
        # quarantine if that is known.
        self.on_unusable: Callable[[str, bytes | None], None] = _ignore
        self.ended_quarantine: bytes | None = None  # one that all processes have confirmed
        self._node = node
        self._epoch_key = namespace + b"epoch"
        self._quarantine_key = namespace + b"quarantine"
        self._clock = NodeClock(namespace + b"clock", word)
        self._lifetimes = lifetimes
        self._counts = counts
        self._word = word
        self._may_claim = may_claim
        self._fence = fence or TermFence(NoTerms(), counts)
        self._decoded: tuple[bytes, Epoch | None] = (b"", None)  # the last value, and its epoch

    async def renew_epoch(self) -> None:
        """Invalidate all entries of the node at once, for all processes.

        A node without an epoch has restarted: then this is the beginning of a new one.
        """
        while not await self._set_epoch():
            pass

    async def raise_term(self) -> None:
        """Begin a new epoch with the term of this process, unless it or a newer one is there."""
        while (term := self._fence.current()) > self.term:
            held, epoch = await self._get_epoch()
            if epoch is None:
                # Another process may be about to set one with a term that has just become old.
                await self._set_epoch()
            elif term <= epoch.term:
                self.term = epoch.term
            else:
                await self._put_epoch(Epoch(self._word(), epoch.list_id, term), held)

    async def check_term(self) -> None:
        """Begin a new epoch if the node has the term of another history of the database."""
        held, epoch = await self._get_epoch()
        # Asked for after the term was found, so that no newer primary has stored it since.
        term = await self._acknowledged()
        if epoch is not None and term < epoch.term:
            await self._put_epoch(Epoch(self._word(), epoch.list_id, term), held)

    async def _acknowledged(self) -> int:
        try:
            return await self._fence.acknowledged()
        except StoreUnavailable as error:
            raise NodeUnavailable("the term of the primary cannot be confirmed") from error

    async def _get_epoch(self) -> tuple[Held | None, Epoch | None]:
        held = (await self._node.gets_many([self._epoch_key])).get(self._epoch_key)
        return held, decode_epoch(held.value) if held else None

    async def _put_epoch(self, epoch: Epoch, held: Held | None) -> bool:
        """Replace the epoch; False if another process did so first."""
        put = Put(self._epoch_key, epoch.encode(), None, held and held.token)
        if await self._put([put]):
            return False
        self._counts.epochs_set += 1
        self.term = epoch.term
        return True

    async def confirm_quarantine(self, quarantine: bytes, process: str) -> None:
        """Note on the node that no write of a process has lost its tombstones."""
        key = self._confirmation(quarantine, process)
        await self._put([Put(key, b"1", self._lifetimes.quarantine)])

    async def is_quarantine_confirmed(self, quarantine: bytes, processes: Collection[str]) -> bool:
        """True if all of these processes have confirmed the quarantine."""
        keys = [self._confirmation(quarantine, process) for process in processes]
        found = await self._node.get_many(keys)
        return all(key in found for key in keys)

    def _confirmation(self, quarantine: bytes, process: str) -> bytes:
        number = quarantine.partition(b"-")[2]
        return b"%b-%b-%b" % (
            self._quarantine_key,
            number,
            digest(process.encode(), 6).hex().encode(),
        )

    async def _set_epoch(self, *, is_quarantined: bool = False) -> bool:
        """Set a new epoch; False if another process set one first.

        If there was none, a quarantine is begun before, unless the caller did.
        """
        held, epoch = await self._get_epoch()
        if not epoch and not is_quarantined:
            await self._begin_quarantine()
        if epoch and epoch.list_id != self.list_id and not self._may_claim():
            self.on_unusable(OTHER_SERVER_LIST, None)
            raise NodeUnavailable("the node belongs to another list of servers")
        if epoch:
            term = max(epoch.term, self._fence.current())
        else:
            term = await self._acknowledged()
        return await self._put_epoch(Epoch(self._word(), self.list_id, term), held)

    async def _begin_quarantine(self) -> None:
        """Begin one, or extend one that ends before writes of this process may have ended."""
        seconds, key = self._lifetimes.quarantine, self._quarantine_key
        while True:
            held = (await self._node.gets_many([key])).get(key)
            if held and (held.seconds_left is None or held.seconds_left >= seconds):
                return
            value = b"%d-%b" % (seconds, self._word())
            if not await self._put([Put(key, value, seconds, held and held.token)]):
                return

    def _is_too_short(self, quarantine: bytes) -> bool:
        """True if a process whose writes take less time than those of this one began it."""
        known = _QUARANTINE.fullmatch(quarantine)
        return known is None or int(known[1]) < self._lifetimes.quarantine

    async def _put(self, puts: Sequence[Put]) -> list[bytes]:
        """Store values; return the keys that another process changed first."""
        done = await self._node.put_many(puts) if puts else []
        if None in done:
            raise NodeUnavailable("the node refused to store a value of the protocol")
        return [put.key for put, stored in zip(puts, done, strict=True) if not stored]


def decode_epoch(stored: bytes) -> Epoch | None:
    """Return the epoch; None if the value is not valid."""
    found = _EPOCH.fullmatch(stored)
    return Epoch(found[1], found[2], int(found[3] or 0)) if found else None


def _ignore(_reason: str, _quarantine: bytes | None) -> None:
    pass
