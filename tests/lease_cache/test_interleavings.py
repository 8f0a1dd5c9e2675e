"""Proof: no interleaving of readers and writers of one key breaks the promise of the cache.

Two readers and two writers, in all interleavings, and with at most one fault anywhere: no read
returns anything older than a write that was answered before it began (stale), or than a read that
had ended before it began (backward). No write that ended leaves its mark on a tombstone (lingers),
and once faults are over, a read is a hit although writers keep coming (no hit). Without any one of
the protocol's rules, an exploration finds one of these.

A backward read takes three reads: one that stores what it read before the commit, one that sees
the new version, and one after it. So one of the readers reads twice ("again").
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest

from tests.lease_cache.explorer import (
    KEY,
    Explorer,
    Guilty,
    ModelNode,
    Process,
    Routine,
    do,
    load,
    protocol_of,
)
from tests.support import naive_cache as naive
from tornado_members.lease_cache.coalescing import SingleFlight, T
from tornado_members.lease_cache.entries import Tombstone, encode_tombstone
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.meta_commands import Held
from tornado_members.lease_cache.protocol import LeaseProtocol

Kind = type[LeaseProtocol]


async def read(leases: LeaseProtocol, times: int) -> None:
    for _ in range(times):
        await do("begin")
        found = await leases.read(KEY, load)
        assert found.entry is not None
        await do("returns", found.entry.version)
        del found


async def write(
    leases: LeaseProtocol, name: bytes, ticks: int | None = None, *, looks_at_the_clock: bool = True
) -> None:
    """As LeaseCache.changing and CacheNode do it, with time taken out or counted in ticks."""
    if ticks:
        await do("starts", ticks)
    try:
        await leases.place_tombstones([KEY], name)
    except NodeUnavailable:
        await do("noticed")
    version = await do("commit", looks_at_the_clock)
    await do("abandon")
    try:
        await leases.remove_tombstones([KEY], name)
    except NodeUnavailable:
        await do("taint")
    await do("answers", version)


async def pay(leases: LeaseProtocol, *, looks_again: bool = True) -> None:
    """What a process does that owes something to a node which answers again."""
    for name in (await do("answers again")).split():
        await leases.place_tombstones([KEY], name.encode())
        if looks_again and await do("has ended", name):
            await leases.remove_tombstones([KEY], name.encode())
    await leases.renew_epoch()
    await do("is read again")


async def tick(leases: LeaseProtocol, times: int) -> None:
    """Time, of which each process hears from the node at least once in every tick."""
    for _ in range(times):
        await leases.probe()
        await do("tick")


def reader(number: int, kind: Kind = LeaseProtocol, lifetime: int = 1) -> Process:
    name = f"r{number}"
    return Process(
        name, lambda: [read(protocol_of(name, kind, lifetime), 1)], kind=kind, lifetime=lifetime
    )


def again(kind: Kind = LeaseProtocol, lifetime: int = 1) -> Process:
    return Process("a1", lambda: [read(protocol_of("a1", kind, lifetime), 2)])


def writer(
    number: int, kind: Kind = LeaseProtocol, ticks: int | None = None, **options: Any
) -> Process:
    """`ticks`: how long a write may take, where time is counted."""
    name = f"w{number}"

    def start() -> list[Routine]:
        return [write(protocol_of(name, kind, ticks or 1), name.encode(), ticks, **options)]

    return Process(name, start, is_writer=True)


def payer(**options: Any) -> Process:
    return Process("p1", lambda: [pay(protocol_of("p1"), **options)])


def clock(ticks: int, kind: Kind = LeaseProtocol, lifetime: int = 1) -> Process:
    """A process that sees the node in every tick; its own writes may take `lifetime`."""
    return Process("t1", lambda: [tick(protocol_of("t1", kind, lifetime), ticks)])


def renewer(kind: Kind = LeaseProtocol) -> Process:
    """Sets a new epoch, whatever for."""
    return Process("p1", lambda: [protocol_of("p1", kind).renew_epoch()])


def invalidator(kind: Kind = LeaseProtocol) -> Process:
    """Tells of a change that is over, or was none: it may come at any time."""
    return Process("i1", lambda: [protocol_of("i1", kind).invalidate([KEY])])


def beside_a_short_one(kind: Kind = LeaseProtocol) -> list[Process]:
    """Two writers, one of which may take longer than the other one's tombstones live."""
    return [reader(1), writer(1, kind, 3), writer(2, kind, 1), clock(1)]


def in_a_short_quarantine(kind: Kind = LeaseProtocol) -> list[Process]:
    """A writer that may take longer than the quarantine that a reader begins."""
    return [reader(1, kind, 2), writer(1, kind, 4), clock(3, kind, lifetime=4)]


def after_a_death(kind: Kind = LeaseProtocol) -> list[Process]:
    """A writer that may die, and times to live that are long enough to be renewed in time."""
    return [reader(1, kind, 3), again(kind), writer(1, kind, 3), clock(1, kind, lifetime=3)]


def paused(**options: Any) -> list[Process]:
    """A writer that may be paused for longer than its tombstone lives."""
    return [reader(1), writer(1, LeaseProtocol, 2, **options), clock(2)]


# With two writers each fault multiplies the states by ten: there the second reader reads only once,
# or one reader is enough, and the larger ones are left to `pytest -m exhaustive`.
EXPLORATIONS = {
    "two writers": ([reader(1), reader(2), writer(1), writer(2)], []),
    "a writer dies": ([reader(1), again(), writer(1)], ["crash"]),
    "one of two writers dies": ([reader(1), writer(1), writer(2)], ["crash"]),
    "something expires or is evicted": ([reader(1), reader(2), writer(1)], ["eviction"]),
    "Memcached restarts": ([reader(1), reader(2), writer(1)], ["restart"]),
    "Memcached restarts before a new epoch": ([reader(1), writer(1), renewer()], ["restart"]),
    "a new epoch": ([reader(1), again(), writer(1)], ["epoch"]),
    "a command fails": ([reader(1), reader(2), writer(1), payer()], ["failure"]),
    "an invalidation": ([reader(1), again(), writer(1), invalidator()], []),
    "a writer beside one that takes less time": (beside_a_short_one(), []),
    "a quarantine for writers that take less time": (in_a_short_quarantine(), ["restart"]),
    "a writer dies, and time is counted": (after_a_death(), ["crash"]),
    "a writer is paused": (paused(), ["pause"]),
}
# Of more than a minute in all.
EXHAUSTIVE = {
    "two writers": ([reader(1), again(), writer(1), writer(2)], []),
    "one of two writers dies": ([reader(1), again(), writer(1), writer(2)], ["crash"]),
    "something expires or is evicted": ([reader(1), again(), writer(1)], ["eviction"]),
    "Memcached restarts": ([reader(1), again(), writer(1)], ["restart"]),
    "Memcached restarts under two writers": ([reader(1), writer(1), writer(2)], ["restart"]),
    "a command fails": ([reader(1), again(), writer(1), payer()], ["failure"]),
    "a restart makes a command fail": (
        [reader(1), reader(2), writer(1), payer()],
        ["failure", "restart"],
    ),
    "Memcached restarts before a new epoch": (
        [reader(1), reader(2), writer(1), renewer()],
        ["restart"],
    ),
    "an invalidation": ([reader(1), again(), writer(1), writer(2), invalidator()], []),
}


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_no_interleaving_is_stale_or_backward(name: str) -> None:
    assert Explorer(*EXPLORATIONS[name]).explore() > 1000


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", EXHAUSTIVE)
def test_no_interleaving_of_more_is_stale_or_backward(name: str) -> None:
    assert Explorer(*EXHAUSTIVE[name]).explore() > 10_000


def sharing(kind: type[SingleFlight[Any]]) -> Process:
    """Three readers of one process."""

    def start() -> list[Routine]:
        turnstile = kind()

        async def request() -> int:
            version = int(await do("find"))
            await do("get", KEY)  # the reply is under way
            return version

        async def read_together() -> None:
            await do("begin")
            await do("returns", await turnstile.ask(KEY, request))

        return [read_together() for _ in range(3)]

    return Process("r1", start)


async def test_readers_who_share_what_was_not_sent_yet_are_not_stale() -> None:
    assert Explorer([sharing(SingleFlight), writer(1)]).explore() > 500


class Joining(SingleFlight[T]):
    """Shares a request that is under way."""

    async def ask(self, key: bytes, request: Callable[[], Awaitable[T]]) -> T:
        if key not in self._under_way:
            self._under_way[key] = []
            result = await request()
            for place in self._under_way.pop(key):
                place.set_result(result)
            return result
        joined: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._under_way[key].append(joined)
        return await joined  # type: ignore[no-any-return]


async def test_readers_who_join_a_request_under_way_are_found_guilty() -> None:
    with pytest.raises(Guilty, match="stale"):
        Explorer([sharing(Joining), writer(1)]).explore()


def aside_reader(number: int) -> Process:
    async def load_aside() -> naive.Entry:
        return naive.Entry(await do("find"), b"")

    async def read_aside() -> None:
        cache = naive.NaiveCache([ModelNode()], ttl=1, namespace="")  # type: ignore[list-item]
        await do("begin")
        await do("returns", (await cache.read(KEY, load_aside)).version)

    return Process(f"r{number}", lambda: [read_aside()])


def aside_writer() -> Process:
    async def write_aside() -> None:
        cache = naive.NaiveCache([ModelNode()], ttl=1, namespace="")  # type: ignore[list-item]
        version = await do("commit", False)
        await cache.forget(KEY)
        await do("answers", version)

    return Process("w1", lambda: [write_aside()], is_writer=True)


def test_plain_cache_aside_is_found_guilty() -> None:
    with pytest.raises(Guilty, match="stale"):
        Explorer([aside_reader(1), aside_reader(2), aside_writer()]).explore()


class LeasesAlone(LeaseProtocol):
    """As in the paper: a write only removes."""

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        pass

    async def remove_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:  # noqa: ARG002
        for key in keys:
            await self._node.delete(key)  # type: ignore[attr-defined]


class BlindTombstones(LeaseProtocol):
    """A writer puts its tombstone over that of another."""

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        for key in keys:
            tombstone = Tombstone(((writer, 1),))
            await self._node.set(key, encode_tombstone(key, tombstone), 1)  # type: ignore[attr-defined]


class InTheirEpoch(LeaseProtocol):
    """Tombstones count only in the epoch in which they were set."""

    _own = b""

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        epoch, _ = await self._look()
        self._own = writer + b":" + (epoch or b"")
        await super().place_tombstones(keys, self._own)

    async def remove_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:  # noqa: ARG002
        await super().remove_tombstones(keys, self._own)

    def counts_in(self, tombstone: Tombstone, epoch: bytes) -> bool:
        return any(writer.endswith(epoch) for writer, _ in tombstone.marks)


class WithoutQuarantine(LeaseProtocol):
    """A new epoch begins at once."""

    async def _begin_quarantine(self) -> None:
        pass


class BlindRenewal(LeaseProtocol):
    """Sets a new epoch on a node that has restarted, as on any other."""

    async def renew_epoch(self) -> None:
        await self._node.set(self._epoch_key, self._word(), 1)  # type: ignore[attr-defined]


class BlindInvalidation(LeaseProtocol):
    """Takes a tombstone away that is another's."""

    async def invalidate(self, keys: Collection[bytes]) -> None:
        for key in keys:
            await self._node.delete(key)  # type: ignore[attr-defined]


class RenewedMarks(LeaseProtocol):
    """Whoever stores a tombstone gives every mark on it a new time to live."""

    def marks_of(self, key: bytes, held: Held | None) -> dict[bytes, int]:
        return dict.fromkeys(super().marks_of(key, held), self._lifetimes.tombstone)


class ShortenedMarks(LeaseProtocol):
    """Whoever stores a tombstone gives it a time to live for its own write alone."""

    def marks_of(self, key: bytes, held: Held | None) -> dict[bytes, int]:
        marks = super().marks_of(key, held)
        return {name: min(ticks, self._lifetimes.tombstone) for name, ticks in marks.items()}


class QuarantineOfTheFirst(LeaseProtocol):
    """A quarantine is as long as whoever began it would have it."""

    def _is_too_short(self, _quarantine: bytes) -> bool:
        return False


def all_of(kind: Kind) -> list[Process]:
    return [reader(1, kind), again(kind), writer(1, kind)]


BROKEN: list[Any] = [
    (LeasesAlone, all_of(LeasesAlone), [], "backward"),
    (BlindTombstones, [*all_of(BlindTombstones), writer(2, BlindTombstones)], [], "backward"),
    (InTheirEpoch, all_of(InTheirEpoch), ["epoch"], "backward"),
    (WithoutQuarantine, all_of(WithoutQuarantine), ["restart"], "backward"),
    pytest.param(
        BlindRenewal,
        [renewer(BlindRenewal), *all_of(LeaseProtocol)],
        ["restart"],
        "backward",
        marks=pytest.mark.exhaustive,  # found after some seconds
    ),
    (BlindInvalidation, [*all_of(LeaseProtocol), invalidator(BlindInvalidation)], [], "backward"),
    (RenewedMarks, after_a_death(RenewedMarks), ["crash"], "no hit"),
    (ShortenedMarks, beside_a_short_one(ShortenedMarks), [], "uncovered"),
    (QuarantineOfTheFirst, in_a_short_quarantine(QuarantineOfTheFirst), ["restart"], "uncovered"),
]


@pytest.mark.parametrize(("kind", "processes", "faults", "verdict"), BROKEN)
def test_without_one_of_its_rules_it_is_found_guilty(
    kind: Kind, processes: list[Process], faults: list[str], verdict: str
) -> None:
    with pytest.raises(Guilty, match=verdict):
        Explorer(processes, faults).explore()
    assert kind.__doc__


def test_a_paused_writer_that_does_not_look_at_the_clock_is_found_guilty() -> None:
    with pytest.raises(Guilty, match="uncovered"):
        Explorer(paused(looks_at_the_clock=False), ["pause"]).explore()


def test_a_late_payment_that_does_not_look_again_is_found_guilty() -> None:
    with pytest.raises(Guilty, match="lingers"):
        Explorer([reader(1), writer(1), payer(looks_again=False)], ["failure"]).explore()
