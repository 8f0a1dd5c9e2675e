"""Proof: no interleaving of readers and writers of one key breaks the promise of the cache.

The explorations cover two readers and two writers, in all interleavings, with at most one fault
anywhere. They establish four properties:

- No read returns a version older than a write that was acknowledged before it began (stale).
- No read returns a version older than a read that had ended before it began (backward).
- No write that ended leaves its mark on a tombstone (lingers).
- Once faults are over, a read hits although writers continue (no hit).

Without any one of the protocol's rules, an exploration finds a violation of one of them.

A backward read takes three reads: one that stores the value from before the commit, one that
sees the new version, and one after it. So one of the readers reads twice ("again").
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import pytest

from tests.lease_cache.explorer import (
    KEY,
    LIST,
    OTHER,
    Explorer,
    ModelNode,
    Process,
    Routine,
    Violation,
    do,
    load,
    load_many,
    protocol_of,
)
from tests.support import naive_cache as naive
from tornado_members.lease_cache.coalescing import SingleFlight, T
from tornado_members.lease_cache.commands import Held, Put
from tornado_members.lease_cache.entries import (
    Entry,
    Reading,
    Tombstone,
    decode,
    encode_tombstone,
    encode_value,
)
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.look_ups import Fill, Found, Hit, LookUp, Miss
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.lease_cache.reads import fill_many

Kind = type[LeaseProtocol]


async def read(leases: LeaseProtocol, times: int) -> None:
    for _ in range(times):
        await do("begin")
        found = await leases.read(KEY, load)
        assert found.entry is not None
        await do("returns", found.entry.version)
        del found


async def read_batch(leases: LeaseProtocol, fill: Any) -> None:
    """Read both keys as MemberDirectory.get_many and LeaseCache.fill do."""
    await do("begin")
    look_ups = await leases.look_up([OTHER, KEY])
    await return_batch(leases, look_ups, fill)


async def return_batch(leases: LeaseProtocol, found_before: list[LookUp], fill: Any) -> None:
    look_ups = dict(zip((OTHER, KEY), found_before, strict=True))
    entries = {key: one.entry for key, one in look_ups.items() if isinstance(one, Hit)}
    others = {key: look_up for key, look_up in look_ups.items() if not isinstance(look_up, Hit)}
    if others:
        found = await fill([(leases, others)], load_many)
        entries |= {key: one.entry for key, one in found.items()}
    other, entry = entries[OTHER], entries[KEY]
    assert other is not None
    assert entry is not None
    if (other.version, other.body, entry.body) != (1, OTHER, b""):
        raise Violation("mixed up: a key of a batch has the entry of another")
    await do("returns", entry.version)


async def write(
    leases: LeaseProtocol,
    name: bytes,
    ticks: int | None = None,
    *,
    looks_at_the_clock: bool = True,
    repeats: bool = True,
    waits: bool = True,
) -> None:
    """Write as LeaseCache.changing and CacheNode do, with time abstract or counted in ticks."""
    if ticks:
        await do("starts", ticks)
    try:
        await leases.place_tombstones([KEY], name)
    except NodeUnavailable:
        if waits:
            await do("noticed")
    version = await do("commit", looks_at_the_clock)
    await do("abandon")
    is_removed = await remove(leases, name)
    if not is_removed:
        await do("mark stale")
    await do("answers", version)
    while not is_removed and repeats:
        await do("replies")
        is_removed = await remove(leases, name)


async def remove(leases: LeaseProtocol, name: bytes) -> bool:
    """Remove the tombstone of a write; False if the node did not reply."""
    try:
        await leases.remove_tombstones([KEY], name)
    except NodeUnavailable:
        return False
    return True


async def flush_pending(
    leases: LeaseProtocol,
    *,
    looks_again: bool = True,
    places: bool = True,
    renews: bool = True,
    waits: bool = True,
) -> None:
    """Send a node that replies again what it missed, as a process does; only then it is read."""
    names = (await do("answers again")).split()
    if not waits:
        await do("is read again")
    for name in names:
        if places:
            await leases.place_tombstones([KEY], name.encode())
        if looks_again and await do("has ended", name):
            await leases.remove_tombstones([KEY], name.encode())
    if renews:
        await leases.renew_epoch()
    await do("is read again")


async def tick(leases: LeaseProtocol, times: int) -> None:
    """Let time pass; in each tick, every process receives at least one heartbeat of the node."""
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


def batch(
    number: int, kind: Kind = LeaseProtocol, *, fill: Any = fill_many, read: Any = read_batch
) -> Process:
    """A reader of two keys, of which only KEY changes."""
    name = f"b{number}"
    return Process(name, lambda: [read(protocol_of(name, kind), fill)], kind=kind, is_batch=True)


def writer(
    number: int, kind: Kind = LeaseProtocol, ticks: int | None = None, **options: Any
) -> Process:
    """A writer; `ticks` limits the duration of its write, where time is counted."""
    name = f"w{number}"

    def start() -> list[Routine]:
        return [write(protocol_of(name, kind, ticks or 1), name.encode(), ticks, **options)]

    return Process(name, start, is_writer=True)


def flusher(**options: Any) -> Process:
    return Process("p1", lambda: [flush_pending(protocol_of("p1"), **options)])


def clock(ticks: int, kind: Kind = LeaseProtocol, lifetime: int = 1) -> Process:
    """A process that sees the node in every tick; its own writes may take `lifetime`."""
    return Process("t1", lambda: [tick(protocol_of("t1", kind, lifetime), ticks)])


def renewer(kind: Kind = LeaseProtocol) -> Process:
    """A process that sets a new epoch, for no particular reason."""
    return Process("p1", lambda: [protocol_of("p1", kind).renew_epoch()])


def invalidator(kind: Kind = LeaseProtocol) -> Process:
    """A process that invalidates a key at any time, with or without a change."""
    return Process("i1", lambda: [protocol_of("i1", kind).invalidate([KEY])])


def beside_a_short_one(kind: Kind = LeaseProtocol) -> list[Process]:
    """Two writers, one of which may take longer than the tombstones of the other live."""
    return [writer(1, kind, 3), writer(2, kind, 1), clock(1)]


def in_a_short_quarantine(kind: Kind = LeaseProtocol, ticks: int = 2) -> list[Process]:
    """A writer that may take longer than the quarantine that a reader begins."""
    return [reader(1, kind, 2), clock(ticks, kind, lifetime=ticks + 1), writer(1, kind, ticks + 1)]


def after_a_death(kind: Kind = LeaseProtocol) -> list[Process]:
    """A writer that may die, and times to live that are long enough for a renewal in time."""
    return [reader(1, kind, 3), writer(1, kind, 3), clock(1, kind, lifetime=3)]


def paused(**options: Any) -> list[Process]:
    """A writer that may be paused for longer than its tombstone lives."""
    return [reader(1), writer(1, LeaseProtocol, 2, **options), clock(2)]


# Each finds rules that are broken, and none finds only what the others find, too. The larger ones
# of the same names are left to `pytest -m exhaustive`.
EXPLORATIONS = {
    "two writers": ([reader(1), writer(1), writer(2)], []),
    "a writer dies": ([reader(1), again(), writer(1)], ["crash"]),
    "one of two writers dies": ([reader(1), writer(1), writer(2)], ["crash"]),
    "something expires or is evicted": ([again(), writer(1)], ["eviction"]),
    "Memcached restarts": ([again(), writer(1)], ["restart"]),
    "Memcached restarts before a new epoch": ([reader(1), writer(1), renewer()], ["restart"]),
    "a new epoch": ([reader(1), again(), writer(1)], ["epoch"]),
    "a command fails": ([again(), writer(1), flusher()], ["failure"]),
    "an invalidation": ([reader(1), again(), writer(1), invalidator()], []),
    "a writer beside one that takes less time": (beside_a_short_one(), []),
    "a quarantine for writers that take less time": (in_a_short_quarantine(), ["restart"]),
    "a writer dies, and time is counted": (after_a_death(), ["crash"]),
    "a writer is paused": (paused(), ["pause"]),
    "a batch beside another": ([batch(1), batch(2), writer(1)], []),
    "a batch beside a reader that reads twice": ([batch(1), again(), writer(1)], []),
    "a batch, and a writer dies": ([reader(1), batch(1), writer(1)], ["crash"]),
    "a batch, and a new epoch": ([reader(1), batch(1), writer(1)], ["epoch"]),
    "a batch, and a command fails": ([batch(1), writer(1), flusher()], ["failure"]),
    "a batch, and Memcached restarts": ([batch(1), writer(1)], ["restart"]),
}
# These take more than a minute in total.
EXHAUSTIVE = {
    "a writer beside one that takes less time": ([reader(1), *beside_a_short_one()], []),
    "a writer dies, and time is counted": ([*after_a_death(), again()], ["crash"]),
    "a batch, and something expires or is evicted": (
        [reader(1), batch(1), writer(1)],
        ["eviction"],
    ),
    "two writers": ([reader(1), again(), writer(1), writer(2)], []),
    "one of two writers dies": ([reader(1), again(), writer(1), writer(2)], ["crash"]),
    "something expires or is evicted": ([reader(1), again(), writer(1)], ["eviction"]),
    "Memcached restarts": ([reader(1), again(), writer(1)], ["restart"]),
    "Memcached restarts under two writers": ([reader(1), writer(1), writer(2)], ["restart"]),
    "a command fails": ([reader(1), again(), writer(1), flusher()], ["failure"]),
    "a command fails under two readers": (
        [reader(1), reader(2), writer(1), flusher()],
        ["failure"],
    ),
    "a quarantine for writers that take less time": (in_a_short_quarantine(ticks=3), ["restart"]),
    "a restart makes a command fail": (
        [reader(1), reader(2), writer(1), flusher()],
        ["failure", "restart"],
    ),
    "Memcached restarts before a new epoch": (
        [reader(1), reader(2), writer(1), renewer()],
        ["restart"],
    ),
    "an invalidation": ([reader(1), again(), writer(1), writer(2), invalidator()], []),
    "a batch under two writers": ([batch(1), again(), writer(1), writer(2)], []),
    "a batch beside another, and something expires or is evicted": (
        [batch(1), batch(2), writer(1)],
        ["eviction"],
    ),
    "a batch, and Memcached restarts": ([reader(1), batch(1), writer(1)], ["restart"]),
    "a batch, and a command fails": ([reader(1), batch(1), writer(1), flusher()], ["failure"]),
}


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_protocol_is_never_stale_or_backward(name: str) -> None:
    assert Explorer(*EXPLORATIONS[name]).explore() > 1000


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", EXHAUSTIVE)
def test_protocol_is_never_stale_or_backward_in_larger_explorations(name: str) -> None:
    assert Explorer(*EXHAUSTIVE[name]).explore() > 10_000


def sharing(kind: type[SingleFlight[Any]]) -> Process:
    """Three readers of one process."""

    def start() -> list[Routine]:
        flight = kind()

        async def request() -> int:
            version = int(await do("find"))
            await do("get", KEY)  # the reply is in flight
            return version

        async def read_together() -> None:
            await do("begin")
            await do("returns", await flight.run(KEY, request))

        return [read_together() for _ in range(3)]

    return Process("r1", start)


async def test_single_flight_that_shares_unsent_requests_is_not_stale() -> None:
    assert Explorer([sharing(SingleFlight), writer(1)]).explore() > 500


class Joining(SingleFlight[T]):
    """Shares a request that is in flight."""

    async def run(self, key: bytes, request: Callable[[], Awaitable[T]]) -> T:
        if key not in self.in_flight:
            self.in_flight[key] = []
            result = await request()
            for waiter in self.in_flight.pop(key):
                waiter.set_result(result)
            return result
        joined: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.in_flight[key].append(joined)
        return await joined  # type: ignore[no-any-return]


async def test_single_flight_that_joins_requests_in_flight_violates_the_guarantee() -> None:
    with pytest.raises(Violation, match="stale"):
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


def test_plain_cache_aside_violates_the_guarantee() -> None:
    with pytest.raises(Violation, match="stale"):
        Explorer([aside_reader(1), aside_reader(2), aside_writer()]).explore()


class LeasesAlone(LeaseProtocol):
    """The leases of the paper, without tombstones: a write only deletes (NSDI'13 §3.2.1)."""

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        pass

    async def remove_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        for key in keys:
            await self._node.delete(key)  # type: ignore[attr-defined]


class BlindTombstones(LeaseProtocol):
    """A writer replaces the tombstone of another with its own."""

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        for key in keys:
            tombstone = Tombstone(((writer, 1),))
            await self._node.set(key, encode_tombstone(key, tombstone), 1)  # type: ignore[attr-defined]


class InTheirEpoch(LeaseProtocol):
    """Tombstones count only in the epoch in which they were set."""

    _own = b""

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        epoch, _, _ = await self._read_state()
        self._own = writer + b":" + (epoch or b"")
        await super().place_tombstones(keys, self._own)

    async def remove_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        await super().remove_tombstones(keys, self._own)

    def counts_in(self, tombstone: Tombstone, epoch: bytes) -> bool:
        return any(writer.endswith(epoch) for writer, _ in tombstone.marks)


class WithoutQuarantine(LeaseProtocol):
    """A new epoch begins at once."""

    async def _begin_quarantine(self) -> None:
        pass


class BlindRenewal(LeaseProtocol):
    """Sets a new epoch on a restarted node as on any other."""

    async def renew_epoch(self) -> None:
        await self._node.set(self._epoch_key, self._word() + LIST, 1)  # type: ignore[attr-defined]


class BlindInvalidation(LeaseProtocol):
    """Deletes the tombstone of another process."""

    async def invalidate(self, keys: Collection[bytes]) -> None:
        for key in keys:
            await self._node.delete(key)  # type: ignore[attr-defined]


class RenewedMarks(LeaseProtocol):
    """A writer that stores a tombstone renews the time to live of every mark on it."""

    def marks_of(self, key: bytes, held: Held | None, now: Reading | None) -> dict[bytes, int]:
        return dict.fromkeys(super().marks_of(key, held, now), self._lifetimes.tombstone)


class ShortenedMarks(LeaseProtocol):
    """A writer that stores a tombstone gives it a time to live for its own write only."""

    def marks_of(self, key: bytes, held: Held | None, now: Reading | None) -> dict[bytes, int]:
        marks = super().marks_of(key, held, now)
        return {name: min(ticks, self._lifetimes.tombstone) for name, ticks in marks.items()}


class MarksFromTheirStorage(LeaseProtocol):
    """Counts the seconds of marks only while they are stored, not while a writer replaces them."""

    def marks_of(self, key: bytes, held: Held | None, now: Reading | None) -> dict[bytes, int]:
        return super().marks_of(key, held, None)


class AgeWithoutSign(LeaseProtocol):
    """Takes a tombstone that is newer than the reading of the clock for as old as that."""

    def marks_of(self, key: bytes, held: Held | None, now: Reading | None) -> dict[bytes, int]:
        stored = held and decode(key, held.value)
        if isinstance(stored, Tombstone) and stored.at and now and stored.at[1] < now[1]:
            return dict(stored.marks)
        return super().marks_of(key, held, now)


class QuarantineOfTheFirst(LeaseProtocol):
    """A quarantine is only as long as the process that began it needs."""

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
    (MarksFromTheirStorage, after_a_death(MarksFromTheirStorage), ["crash"], "no hit"),
    (AgeWithoutSign, beside_a_short_one(AgeWithoutSign), [], "uncovered"),
    (ShortenedMarks, beside_a_short_one(ShortenedMarks), [], "uncovered"),
    (QuarantineOfTheFirst, in_a_short_quarantine(QuarantineOfTheFirst), ["restart"], "uncovered"),
]


@pytest.mark.parametrize(("kind", "processes", "faults", "verdict"), BROKEN)
def test_protocol_without_any_one_rule_violates_the_guarantee(
    kind: Kind, processes: list[Process], faults: list[str], verdict: str
) -> None:
    with pytest.raises(Violation, match=verdict):
        Explorer(processes, faults).explore()
    assert kind.__doc__


def test_paused_writer_that_ignores_its_deadline_violates_the_guarantee() -> None:
    with pytest.raises(Violation, match="uncovered"):
        Explorer(paused(looks_at_the_clock=False), ["pause"]).explore()


@pytest.mark.parametrize(
    "processes",  # in an order in which the search finds the violation early
    [
        # A writer waits until all processes have noticed the outage.
        [reader(1), again(), writer(1, waits=False), flusher()],
        # Late tombstones of writes under way.
        [reader(1), again(), writer(1), flusher(places=False)],
        # The epoch of a node that missed something.
        [writer(1), flusher(renews=False), again()],
        # A node that is back is not read at once.
        [flusher(waits=False), writer(1), again()],
    ],
    ids=["commits at once", "no late tombstone", "no new epoch", "is read at once"],
)
def test_outage_without_any_one_rule_violates_the_guarantee(processes: list[Process]) -> None:
    with pytest.raises(Violation, match=r"stale|backward"):
        Explorer(processes, ["failure"]).explore()


def test_writer_that_does_not_repeat_a_missed_removal_violates_the_guarantee() -> None:
    with pytest.raises(Violation, match="lingers"):
        Explorer([reader(1), writer(1, repeats=False), flusher()], ["failure"]).explore()


def test_late_tombstone_without_a_second_check_violates_the_guarantee() -> None:
    with pytest.raises(Violation, match="lingers"):
        Explorer([reader(1), writer(1), flusher(looks_again=False)], ["failure"]).explore()


async def fill_after_loading(nodes: Any, load_all: Any) -> dict[bytes, Found]:
    """Loads all keys of a batch before it takes their leases."""
    ((leases, look_ups),) = nodes
    loaded = await load_all([*look_ups])
    entries = dict(zip(look_ups, loaded, strict=True))
    fills = await leases.begin_fills(look_ups)
    return dict(await leases.end_fills(fills, entries))


async def read_batch_of_earlier(leases: LeaseProtocol, fill: Any) -> None:
    """Shares a look-up that another reader made before this one asked."""
    look_ups = await leases.look_up([OTHER, KEY])
    await do("begin")
    await return_batch(leases, look_ups, fill)


class OneLease(LeaseProtocol):
    """Takes one lease for a batch: that of its first key."""

    async def _take_leases(self, misses: Mapping[bytes, Miss]) -> dict[bytes, int]:
        first = next(iter(misses), None)
        leased = await super()._take_leases({key: misses[key] for key in misses if key == first})
        return leased if first is None or first not in leased else dict.fromkeys(misses, 0) | leased

    def _put_entry(self, key: bytes, fill: Fill, entry: Entry | None) -> Put:
        return Put(key, encode_value(key, fill.epoch, entry), 1, fill.token or None)


class SwappedTokens(LeaseProtocol):
    """Stores each entry of a batch under the key of another."""

    async def end_fills(
        self, fills: Mapping[bytes, Fill], entries: Mapping[bytes, Entry | None]
    ) -> dict[bytes, Found]:
        swapped = dict(zip(entries, reversed([*entries.values()]), strict=True))
        found = await super().end_fills(fills, swapped)
        return {key: Found(entries[key], one.status) for key, one in found.items()}


@pytest.mark.parametrize(
    ("reader_of_two", "verdict"),
    [
        (batch(1, fill=fill_after_loading), "backward|stale"),
        (batch(1, read=read_batch_of_earlier), "backward|stale"),
        (batch(1, OneLease), "backward|stale"),
        (batch(1, SwappedTokens), "mixed up"),
    ],
    ids=["fill_after_loading", "read_batch_of_earlier", "OneLease", "SwappedTokens"],
)
def test_batch_without_any_one_rule_violates_the_guarantee(
    reader_of_two: Process, verdict: str
) -> None:
    with pytest.raises(Violation, match=verdict):
        Explorer([reader_of_two, batch(2), writer(1)]).explore()
