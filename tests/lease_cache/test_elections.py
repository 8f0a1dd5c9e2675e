"""Proof: no interleaving with an election lets a deposed primary make an answer old.

The explorer lets another primary be elected at any point. A process that is cut off reaches the old
one alone, which returns what was committed before the election; another process may use it until
its driver learns better. Without any one rule of the fence (terms.py), a read is stale or backward.

What a process returns although the node did not take its term is left out: the node does not reply
to it (docs/decisions/read-concern.md). Nothing of that is stored.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from tests.lease_cache.explorer import (
    KEY,
    Explorer,
    ModelTerms,
    Process,
    Violation,
    do,
    protocol_of,
)
from tornado_members.lease_cache.commands import Held
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.epochs import Epoch
from tornado_members.lease_cache.errors import NodeUnavailable, StoreUnavailable
from tornado_members.lease_cache.look_ups import HIT
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.lease_cache.terms import TermFence

T = TypeVar("T")
Kind = type[LeaseProtocol]
Fence = type[TermFence]


async def read(leases: LeaseProtocol, fence: TermFence, terms: ModelTerms, times: int) -> None:
    """Read as LeaseCache.read does."""
    for _ in range(times):
        await do("begin")
        with suppress(StoreUnavailable):
            found = await leases.read(KEY, terms.load)
            assert found.entry is not None
            has_failed = found.status != HIT and leases.term < terms.current()
            if not (has_failed and type(fence) is TermFence):
                await do("returns", found.entry.version)
            del found


async def write(leases: LeaseProtocol, fence: TermFence, terms: ModelTerms, name: bytes) -> None:
    """Write as LeaseCache.changing does; after a command that failed, nothing is answered."""
    try:
        await leases.place_tombstones([KEY], name)
        version = await terms.commit()
        await fence.publish(terms.current())
        await leases.remove_tombstones([KEY], name)
        await do("answers", version)
    except NodeUnavailable:
        await do("give up")


async def follow(leases: LeaseProtocol, terms: ModelTerms) -> None:
    """Write as another program does; the follower of the change stream invalidates the key."""
    version = await terms.commit()
    await leases.invalidate([KEY])
    await do("answers", version)


def made(name: str, kind: Kind, fence: Fence) -> tuple[LeaseProtocol, TermFence, ModelTerms]:
    terms, nodes = ModelTerms(), SimpleNamespace(all=[])
    its_fence = fence(terms, CacheCounts(), nodes)
    its_fence._established = 1  # it has read before
    leases = protocol_of(name, kind, fence=its_fence)
    leases.protocol = leases  # type: ignore[attr-defined]  # it stands for its node as well
    nodes.all.append(leases)
    return leases, its_fence, terms


def reader(
    name: str,
    times: int,
    kind: Kind = LeaseProtocol,
    fence: Fence = TermFence,
    *,
    cut: bool = False,
) -> Process:
    return Process(name, lambda: [read(*made(name, kind, fence), times)], is_cut=cut)


def cut_reader(times: int, kind: Kind = LeaseProtocol, fence: Fence = TermFence) -> Process:
    return reader("c1", times, kind, fence, cut=True)


def writer(kind: Kind = LeaseProtocol, fence: Fence = TermFence) -> Process:
    return Process("w1", lambda: [write(*made("w1", kind, fence), b"w1")], is_writer=True)


def follower(kind: Kind = LeaseProtocol) -> Process:
    def start() -> list[Any]:
        leases, _, terms = made("f1", kind, TermFence)
        return [follow(leases, terms)]

    return Process("f1", start)


def renewer(kind: Kind = LeaseProtocol) -> Process:
    """A process that is cut off, and gives the node a new epoch."""

    async def renew() -> None:
        with suppress(NodeUnavailable):
            await made("p1", kind, TermFence)[0].renew_epoch()

    return Process("p1", lambda: [renew()], is_cut=True)


EXPLORATIONS: dict[str, tuple[list[Process], list[str]]] = {
    "a reader that is cut off": ([cut_reader(2), reader("r1", 1), writer()], []),
    "another program": ([cut_reader(2), follower()], []),
    "a new epoch": ([cut_reader(2), writer(), renewer()], []),
}
# These take ten seconds in total.
EXHAUSTIVE: dict[str, tuple[list[Process], list[str]]] = {
    "a reader that reads twice": ([cut_reader(1), reader("r1", 2), writer()], []),
    "Memcached restarts": ([cut_reader(2), writer()], ["restart"]),
    "a command fails": ([cut_reader(1), reader("r1", 1), writer()], ["failure"]),
}


def explore(processes: list[Process], faults: list[str]) -> int:
    return Explorer(processes, [*faults, "election"]).explore()


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_fence_lets_no_deposed_primary_make_an_answer_old(name: str) -> None:
    assert explore(*EXPLORATIONS[name]) > 500


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", EXHAUSTIVE)
def test_fence_lets_no_deposed_primary_make_an_answer_old_in_larger_explorations(name: str) -> None:
    assert explore(*EXHAUSTIVE[name]) > 10_000


class TrustingFence(TermFence):
    """Returns what was loaded, whatever the node says."""

    async def load(self, load: Callable[[], Awaitable[T]], **_: bool) -> T:
        loaded = await load()
        await self.publish(self.current())
        return loaded


class LateFence(TermFence):
    """Compares the term that the process knows after it has loaded."""

    async def load(self, load: Callable[[], Awaitable[T]], **_: bool) -> T:
        while True:
            loaded = await load()
            if self.current() >= self.known:
                await self.publish(self.current())
                return loaded
            await self._resolve_doubt()


class HastyFence(TermFence):
    """Loads from a new primary before its first commit."""

    async def _establish(self) -> None:
        pass


class UnconfirmedFence(TermFence):
    """Returns what was loaded although the node was not asked for its term."""

    async def _is_confirmed(self, _term: int) -> bool:
        return True


class SilentFence(TermFence):
    """Returns what was loaded before the node has its term."""

    async def publish(self, _term: int) -> None:
        pass


class SilentWriter(LeaseProtocol):
    """Removes tombstones, and what was stored before a change, before the node has its term."""

    async def remove_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        current, self._fence.current = self._fence.current, lambda: 0
        try:
            await super().remove_tombstones(keys, writer)
        finally:
            self._fence.current = current


class SameEpoch(LeaseProtocol):
    """Stores a new term beside the old epoch."""

    async def raise_term(self) -> None:
        while (term := self._fence.current()) > self.term:
            held, epoch = await self._get_epoch()
            assert epoch is not None
            if term <= epoch.term:
                self.term = epoch.term
            else:
                await self._put_epoch(epoch._replace(term=term), held)


class SkippedNode(LeaseProtocol):
    """Stores no term on a node that has lost its epoch."""

    async def raise_term(self) -> None:
        with suppress(_NoEpoch):
            await super().raise_term()

    async def _set_epoch(self, *, is_quarantined: bool = False) -> bool:
        if not is_quarantined:
            raise _NoEpoch
        return await super()._set_epoch(is_quarantined=is_quarantined)


class _NoEpoch(Exception):
    pass


class ForgottenTerm(LeaseProtocol):
    """Begins a new epoch with the term that the process knows, although the node has a newer."""

    async def _put_epoch(self, epoch: Epoch, held: Held | None) -> bool:
        return await super()._put_epoch(epoch._replace(term=self._fence.current()), held)


class UnacknowledgedTerm(LeaseProtocol):
    """Begins an epoch on a restarted node with the term that the process knows."""

    async def _acknowledged(self) -> int:
        return self._fence.current()


L = LeaseProtocol
BROKEN: list[Any] = [
    (TrustingFence, [cut_reader(1, L, TrustingFence), writer()], [], "stale"),
    (LateFence, [reader("r1", 1, L, LateFence), writer()], [], "stale"),
    (HastyFence, [reader("r1", 1, L, HastyFence), writer()], [], "stale"),
    (
        UnconfirmedFence,
        [cut_reader(2, L, UnconfirmedFence), writer()],
        ["restart"],
        "stale",
    ),
    (SilentFence, [cut_reader(1), reader("r1", 1, L, SilentFence), writer()], [], "backward"),
    (
        SilentWriter,
        [cut_reader(2), writer(SilentWriter, SilentFence)],
        [],
        "stale",
    ),
    (SilentWriter, [cut_reader(2), follower(SilentWriter)], [], "stale"),
    (SameEpoch, [cut_reader(2), writer(SameEpoch)], [], "stale"),
    (ForgottenTerm, [cut_reader(1), writer(), renewer(ForgottenTerm)], [], "stale"),
    (UnacknowledgedTerm, [cut_reader(2, UnacknowledgedTerm), writer()], ["restart"], "stale"),
    (SkippedNode, [cut_reader(2), writer(SkippedNode)], ["restart"], "stale"),
]


@pytest.mark.parametrize(("rule", "processes", "faults", "verdict"), BROKEN)
def test_fence_without_any_one_rule_violates_the_guarantee(
    rule: type, processes: list[Process], faults: list[str], verdict: str
) -> None:
    with pytest.raises(Violation, match=verdict):
        explore(processes, faults)
    assert rule.__doc__
