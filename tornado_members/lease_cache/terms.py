"""The fence against a primary that was deposed and does not know it.

A database with several servers numbers its elections: each primary has a higher *term* than the one
before. A process that reaches only a deposed primary reads what others have overwritten meanwhile.
So each node stores the highest term beside its epoch (epochs.py), and

- what a process loads counts only if the process knew, *before* it began to load, a term as high as
  any that it has found on a node: it reads the node first, and its driver uses no older primary;
- a process stores the term that it knows on the nodes *after* it has loaded and before it returns
  or stores what it loaded, *after* a commit and before it removes the tombstones, and before it
  removes what another client changed;
- a new term is a new epoch: what was loaded under an older one is not stored under the newer one,
  although the reader read the node before;
- a node that has lost its epoch, and its term with that, gets a new one only with a term in which a
  majority of the database has acknowledged a write since;
- a process loads in a term only after a majority has acknowledged a write of it in that term, once
  per election: until its first commit, a new primary may return less than the old one committed;
- a process that cannot ask the node for its term has a majority acknowledge a write after it has
  loaded. Readers share these writes. They are needed only while a node does not reply, or is not
  read for another reason, and only if the database has several servers.

So a process that finds an older term on the node than its own load returns nothing that is older
than what another process has returned or acknowledged. Hits need no check: what is stored obeys the
rules. A process that already knows the term of the node sends nothing for any of this.

In doubt, a process has a write acknowledged. A deposed primary cannot do that, and a majority that
acknowledges a write in a *lower* term than the node's has another history: the database was
restored into a new replica set, whose terms begin again. Then the node gets a new epoch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from logging import getLogger
from typing import Protocol, TypeVar

from tornado_members.lease_cache.coalescing import SingleFlight
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.errors import NodeUnavailable

log = getLogger(__name__)

T = TypeVar("T")

_DRIVER_LAG_SECONDS = 0.02  # between two readings of a driver that has not noticed an election yet


class Terms(Protocol):
    """The elections of the database."""

    def current(self) -> int:
        """Return the term of the newest primary that the driver knows; 0 without elections.

        Each operation that begins later uses a primary of this term or of a newer one.
        """

    def has_rivals(self) -> bool:
        """True if another server may be elected, as far as the driver knows."""

    async def acknowledged(self) -> int:
        """Have a majority acknowledge a write; return its term, 0 without elections.

        Raises StoreUnavailable after a timeout.
        """


class NoTerms:
    """A database without elections."""

    def current(self) -> int:
        """Implement Terms."""
        return 0

    def has_rivals(self) -> bool:
        """Implement Terms."""
        return False

    async def acknowledged(self) -> int:
        """Implement Terms."""
        return 0


class StoredTerm(Protocol):
    """The knowledge that this process has of the term on a node."""

    @property
    def term(self) -> int:
        """The term that this process last found or stored there."""


class FencedNode(Protocol):
    """A node that stores a term."""

    @property
    def protocol(self) -> StoredTerm:
        """The part of the node that knows its term."""

    async def raise_term(self) -> None:
        """Begin an epoch with the term that this process knows. Raises NodeUnavailable."""

    async def check_term(self) -> None:
        """Begin a new epoch if the node has the term of another history of the database.

        Raises NodeUnavailable.
        """


class FencedNodes(Protocol):
    """The nodes on which the process stores its term."""

    @property
    def all(self) -> Sequence[FencedNode]:
        """The nodes."""


class NoNodes:
    """A cache without nodes."""

    all: Sequence[FencedNode] = ()


class TermFence:
    """The terms that one process knows: that of its driver, and those that it found on nodes."""

    def __init__(
        self,
        terms: Terms,
        counts: CacheCounts,
        nodes: FencedNodes = NoNodes(),  # noqa: B008 - it is immutable
    ) -> None:
        """`nodes` are those on which the process stores its term."""
        self.current = terms.current
        self.known = 0  # the highest term that was found on any node
        self.published = 0  # the highest term that this process has stored, where nodes replied
        self._established = (
            0  # the last term in which a majority acknowledged a write of this process
        )
        self._terms = terms
        self._nodes = nodes
        self._counts = counts
        self._flight: SingleFlight[int] = SingleFlight()

    async def acknowledged(self) -> int:
        """Have a majority acknowledge a write; return its term. Raises StoreUnavailable.

        A server without rivals is the majority.
        """
        if not self._terms.has_rivals():
            return self.current()
        return await self._flight.run(b"", self._terms.acknowledged)

    async def load(self, load: Callable[[], Awaitable[T]], *, has_term: bool = True) -> T:
        """Return what `load` returns, once no primary can have been deposed before it began.

        `has_term` is True if the term was read before, from each node of what is loaded.
        Exceptions of `load` pass through. Raises StoreUnavailable if only a deposed primary
        replies.
        """
        while True:
            term = self.current()
            if term > self._established:
                await self._establish()
            loaded = await load()
            if term < self.known:
                await self._resolve_doubt()
            elif term == self.current() and (has_term or await self._is_confirmed(term)):
                await self.publish(term)
                return loaded

    async def _establish(self) -> None:
        """Return once the primary of a new term has committed. Raises StoreUnavailable."""
        self._established = await self.acknowledged()

    async def _is_confirmed(self, term: int) -> bool:
        """True if the primary that was used is still one. Raises StoreUnavailable."""
        acknowledged = await self.acknowledged()
        if acknowledged <= term:
            return True
        self._counts.doubtful_loads += 1
        await self._wait_for_driver(acknowledged)
        return False

    async def _wait_for_driver(self, term: int) -> None:
        if self.current() < term:
            await asyncio.sleep(_DRIVER_LAG_SECONDS)

    async def publish(self, term: int) -> None:
        """Store the term, which is the current one, on all nodes that have an older one.

        A node that does not reply keeps its term, so nothing that was loaded is stored there.
        """
        self.published = max(self.published, term)
        for node in self._nodes.all:
            if term > node.protocol.term:
                with suppress(NodeUnavailable):
                    await node.raise_term()

    async def _resolve_doubt(self) -> None:
        """Return when it makes sense to load again. Raises StoreUnavailable."""
        self._counts.doubtful_loads += 1
        known = self.known
        acknowledged = await self.acknowledged()
        if acknowledged < known == self.known:
            log.warning(
                "the cache has the term %d, and the database the term %d: emptying the cache, "
                "because this is another replica set than before",
                known,
                acknowledged,
            )
            self.known = acknowledged
            for node in self._nodes.all:
                with suppress(NodeUnavailable):  # it is checked when it is found again
                    await node.check_term()
        else:
            await self._wait_for_driver(known)
