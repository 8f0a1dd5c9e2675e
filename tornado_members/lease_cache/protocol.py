"""The protocol of one node: epochs, leases and tombstones, after Nishtala et al., NSDI'13 §3.2.1.

Plain read-through caching returns stale entries: a reader loads version 1, a writer stores version
2 and removes the entry, and the reader then stores version 1. So
- a reader stores under a *lease* that it took before it read the database, by compare-and-set:
  if anything touches the key in between, storing fails;
- a writer places a *tombstone* on the key before it commits, and removes it afterwards. Meanwhile
  all readers read the database, so that none sees the new version and then the old one.
  A tombstone holds one mark per writer of the key. A writer adds and removes its own mark only.
  Each mark expires on its own, so the mark of a writer that died does not outlive its time while
  others write the key, and a writer with a short time does not shorten the time of another;
- everything but a tombstone belongs to the node's *epoch* (epochs.py).

Time is counted by the node alone (node_clock.py), so the clocks of the processes do not matter
(docs/decisions/tombstones.md). Nothing here depends on tasks.
tests/lease_cache/test_interleavings.py runs this code through all interleavings, and shows for
each of these rules what goes wrong without it.
"""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from tornado_members.lease_cache.commands import MAX_VALUE, Held, Put
from tornado_members.lease_cache.entries import (
    Entry,
    Reading,
    Tombstone,
    decode,
    encode_lease,
    encode_mark,
    encode_tombstone,
    encode_value,
    is_only_mark,
)
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.look_ups import (
    HIT,
    LEASED,
    NOT_STORED,
    OVERTAKEN,
    REFUSED,
    STORED,
    TOO_LARGE,
    Bypass,
    Fill,
    Found,
    Hit,
    Load,
    LookUp,
    Miss,
    NotHit,
    bypass,
)
from tornado_members.lease_cache.node_clock import age
from tornado_members.lease_cache.node_reads import NodeReads

# Indexed by the result of `put_many` for an entry.
_STATUSES = {1: STORED, 0: OVERTAKEN, None: REFUSED}
# Why a lease was not used, for the metrics.
_REASONS = {
    NOT_STORED: "node-unavailable",
    TOO_LARGE: "too-large",
    OVERTAKEN: "overtaken",
    REFUSED: "refused",
}
_JITTER = 0.1  # entries live up to a tenth less than they may, so as not to expire all at once
_MOST_MARKS = 100
_MANY_WRITERS = b"*"  # one mark for all, if there are too many; no writer removes it


class LeaseProtocol(NodeReads):
    """The protocol on one node. Keys are complete: with the namespace, and valid for Memcached.

    All methods but `look_up`, `read` and those of fills raise NodeUnavailable if the node did not
    confirm the request.
    """

    async def read(
        self,
        key: bytes,
        load: Load,
        *,
        rejected: Entry | None = None,
        look_up: LookUp | None = None,
    ) -> Found:
        """Return the entry of a key, from the node or else from `load`, and how it was found.

        Exceptions of `load` pass through. An entry that is equal to `rejected` counts as a miss.
        `look_up` is the look-up of this reader, not older than the read. A hit is looked up again.
        Raises StoreUnavailable if only a deposed primary replies.
        """
        if look_up is None or isinstance(look_up, Hit):
            (look_up,) = await self.look_up([key])
        if isinstance(look_up, Hit):
            if rejected is None or look_up.entry != rejected:
                self._counts.hits += 1
                return Found(look_up.entry, HIT)
            look_up = look_up.if_rejected
        fills = await self.begin_fills({key: look_up})
        try:
            entry = await self._fence.load(load, has_term=look_up.has_term)
        except (Exception, asyncio.CancelledError):
            await self.give_up_fills(fills)
            raise
        return (await self.end_fills(fills, {key: entry}))[key]

    async def begin_fills(self, look_ups: Mapping[bytes, NotHit]) -> dict[bytes, Fill]:
        """Take the leases of all misses in one request, before the database is read.

        The look-ups are this reader's. `end_fills` or `give_up_fills` must follow. Neither of the
        three raises NodeUnavailable.
        """
        misses = {key: one for key, one in look_ups.items() if isinstance(one, Miss)}
        tokens: Mapping[bytes, int] = {}
        try:
            tokens = await self._take_leases(misses)
        except NodeUnavailable:
            look_ups = {**look_ups, **dict.fromkeys(misses, Bypass("node-unavailable"))}
        return {key: self._begin_fill(one, tokens.get(key)) for key, one in look_ups.items()}

    async def end_fills(
        self, fills: Mapping[bytes, Fill], entries: Mapping[bytes, Entry | None]
    ) -> dict[bytes, Found]:
        """Store the entries that were read, in one request, where the lease is untouched."""
        puts = [
            self._put_entry(key, fill, entries[key])
            for key, fill in fills.items()
            if fill.token is not None
        ]
        if self._fence.published > self.term:
            # The node did not take the term of what was loaded (terms.py).
            stored = dict.fromkeys((put.key for put in puts), NOT_STORED)
        else:
            stored = await self._store(puts)
        statuses = {key: fill.status for key, fill in fills.items()} | stored
        self._count_fills(fills, statuses)
        kept = {key: fills[key] for key, one in statuses.items() if one in (TOO_LARGE, REFUSED)}
        await self.give_up_fills(kept)
        return {key: Found(entries[key], status) for key, status in statuses.items()}

    async def give_up_fills(self, fills: Mapping[bytes, Fill]) -> None:
        """Remove the leases of a reader that stores nothing."""
        leases = [(key, fill.token) for key, fill in fills.items() if fill.token is not None]
        with suppress(NodeUnavailable):  # the leases expire
            if leases:
                await self._node.put_many([Put(key, b"", 0, token) for key, token in leases])

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        """Put a tombstone on every key of a write, before it commits."""
        waiting = list(keys)
        while waiting:
            found, now = await self._get_marked(waiting)
            puts = [self._put_tombstone(key, found.get(key), writer, now) for key in waiting]
            if now is None:
                puts.append(self._clock.start())
            waiting = [key for key in await self._put(puts) if key != self._clock.key]

    async def remove_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        """Remove a write's tombstones, after it committed or came to nothing.

        Where a tombstone is gone, the value in its place is from before the commit, and is removed.
        """
        await self.remove_marks(dict.fromkeys(keys, (writer,)))

    async def remove_marks(self, writers: Mapping[bytes, Collection[bytes]]) -> None:
        """Remove the tombstones of several writes; `writers` holds the writers of each key."""
        await self.raise_term()
        waiting = list(writers)
        while waiting:
            found, now = await self._get_marked(waiting)
            puts = [self._put_without(key, found.get(key), writers[key], now) for key in waiting]
            waiting = await self._put([put for put in puts if put])

    async def invalidate(self, keys: Collection[bytes]) -> None:
        """Remove entries and leases whose members another client changed.

        Tombstones stay: each belongs to a writer, and hides no entry.
        """
        await self.remove_tombstones(keys, b"")

    async def _take_leases(self, misses: Mapping[bytes, Miss]) -> dict[bytes, int]:
        """Return the tokens for storing, by the keys whose lease no other process took first."""
        dead = [key for key, miss in misses.items() if miss.dead is not None]
        held = await self._node.gets_many(dead) if dead else {}
        puts = []
        for key, miss in misses.items():
            found = held.get(key)
            if miss.dead == (found and found.value):
                lease, ttl = encode_lease(key, miss.epoch), self._lifetimes.lease
                puts.append(Put(key, lease, ttl, found and found.token, wants_token=True))
        taken = await self._node.put_many(puts) if puts else []
        return {put.key: token for put, token in zip(puts, taken, strict=True) if token}

    def _begin_fill(self, look_up: NotHit, token: int | None) -> Fill:
        if isinstance(look_up, Bypass):
            self._counts.bypasses[look_up.reason] += 1
            return Fill(bypass(look_up.reason))
        self._counts.misses += 1
        if isinstance(look_up, Miss) and token is not None:
            return Fill(STORED, look_up.epoch, token)
        self._counts.refused_fills["leased"] += 1
        return Fill(LEASED)

    def _put_entry(self, key: bytes, fill: Fill, entry: Entry | None) -> Put:
        jitter = _JITTER * random.random()  # noqa: S311  # it need not be unpredictable
        ttl = max(1, round(self._lifetimes.entry * (1 - jitter)))
        return Put(key, encode_value(key, fill.epoch, entry), ttl, fill.token)

    async def _store(self, puts: Sequence[Put]) -> dict[bytes, str]:
        """Store entries; return the outcomes by key."""
        statuses = dict.fromkeys((put.key for put in puts), TOO_LARGE)
        # A node that refuses a large value would count as unavailable.
        small = [put for put in puts if len(put.value) <= MAX_VALUE]
        try:
            stored = await self._node.put_many(small) if small else []
        except NodeUnavailable:
            return statuses | dict.fromkeys((put.key for put in small), NOT_STORED)
        return statuses | {put.key: _STATUSES[one] for put, one in zip(small, stored, strict=True)}

    def _count_fills(self, fills: Mapping[bytes, Fill], statuses: Mapping[bytes, str]) -> None:
        for key, fill in fills.items():
            if fill.token is not None and statuses[key] == STORED:
                self._counts.fills += 1
            elif fill.token is not None:
                self._counts.refused_fills[_REASONS[statuses[key]]] += 1

    async def _get_marked(
        self, keys: Collection[bytes]
    ) -> tuple[Mapping[bytes, Held], Reading | None]:
        """Return what is stored under these keys, and the node's clock before that."""
        found = await self._node.gets_many([self._clock.key, *keys])
        return found, self._clock.read(found.get(self._clock.key))

    def _put_tombstone(
        self, key: bytes, held: Held | None, writer: bytes, now: Reading | None
    ) -> Put:
        """Add a writer's mark to those that stand on the key."""
        if held is None:
            ttl = self._lifetimes.tombstone
            return Put(key, encode_mark(key, writer, ttl, now), ttl)
        marks = {**self.marks_of(key, held, now), writer: self._lifetimes.tombstone}
        if len(marks) > _MOST_MARKS:
            marks = {_MANY_WRITERS: max(marks.values())}
        return _put_marks(key, marks, now, held.token)

    def _put_without(
        self, key: bytes, held: Held | None, writers: Collection[bytes], now: Reading | None
    ) -> Put | None:
        """Remove the marks of these writers, or an entry; None if there is nothing to do."""
        if held is None:
            return None
        for writer in writers:  # the usual case, which decodes nothing
            if is_only_mark(key, held.value, writer, self._lifetimes.tombstone):
                return Put(key, b"", 0, held.token)
        marks = self.marks_of(key, held, now)
        others = {writer: seconds for writer, seconds in marks.items() if writer not in writers}
        if not others:
            return Put(key, b"", 0, held.token)
        # Also where its mark has expired: another writer may be about to store it again.
        tombstone = _tombstone_in(key, held)
        if tombstone is None or {writer for writer, _ in tombstone.marks}.isdisjoint(writers):
            return None
        return _put_marks(key, others, now, held.token)

    def marks_of(self, key: bytes, held: Held | None, now: Reading | None) -> dict[bytes, int]:
        """Return the marks on a key that have not expired, with the seconds that each has left."""
        tombstone = _tombstone_in(key, held)
        if tombstone is None or held is None:
            return {}
        elapsed = age(tombstone, held, now)
        return {
            writer: seconds - elapsed for writer, seconds in tombstone.marks if seconds > elapsed
        }


def _tombstone_in(key: bytes, held: Held | None) -> Tombstone | None:
    stored = held and decode(key, held.value)
    return stored if isinstance(stored, Tombstone) else None


def _put_marks(
    key: bytes, marks: Mapping[bytes, int], now: Reading | None, token: int | None
) -> Put:
    tombstone = Tombstone(tuple(marks.items()), now)
    return Put(key, encode_tombstone(key, tombstone), tombstone.ttl, token)
