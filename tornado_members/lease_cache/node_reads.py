"""Reads of one node: how each key may be read, according to the node's epoch and its value."""

from collections.abc import Mapping, Sequence

from tornado_members.lease_cache.entries import (
    Lease,
    Tombstone,
    Value,
    are_entries,
    decode,
    parse_value,
)
from tornado_members.lease_cache.epochs import (
    OTHER_SERVER_LIST,
    QUARANTINE,
    NodeEpoch,
    decode_epoch,
)
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.look_ups import Bodies, Bypass, Hit, Leased, LookUp, Miss
from tornado_members.lease_cache.value_replies import Lines


class NodeReads(NodeEpoch):
    """Looks at the node. Keys are complete: with the namespace, and valid for Memcached."""

    async def probe(self) -> None:
        """Read the epoch of the node, and begin one if it has none; store a newer term."""
        await self._look()
        await self.raise_term()

    async def look_up(self, keys: Sequence[bytes]) -> dict[bytes, LookUp]:
        """Look at the node once, and decide how each key may be read."""
        epoch, unread, stored = await self._look_at(keys)
        if epoch is None:
            return unread
        decide, get = self._decide, stored.get
        return {key: decide(key, epoch, get(key)) for key in keys}

    async def look_up_bodies(
        self, keys: Sequence[bytes], tag_end: bytes
    ) -> dict[bytes, LookUp] | Bodies:
        """Look at the node once; return the bodies if each key is a hit whose tag ends so.

        Otherwise, decides how each key may be read.
        """
        epoch, unread, stored = await self._look_at(keys, in_lines=True)
        if epoch is None:
            return unread
        if isinstance(stored, Lines):
            if are_entries(keys, epoch, stored.firsts, tag_end):
                return Bodies(keys, stored.seconds, epoch, stored.firsts)
            stored = stored.all_values(keys)
        return {key: self._decide(key, epoch, stored.get(key)) for key in keys}

    async def _look_at(
        self, keys: Sequence[bytes], *, in_lines: bool = False
    ) -> tuple[bytes | None, dict[bytes, LookUp], Mapping[bytes, bytes]]:
        """Return the epoch and the values of the keys, or None and how to read past the node."""
        try:
            epoch, reason, stored = await self._look(keys, in_lines=in_lines)
        except NodeUnavailable:
            return None, dict.fromkeys(keys, Bypass("node-unavailable")), {}
        if epoch is not None:
            return epoch, {}, stored
        unread = Bypass(reason, has_term=self._decoded[1] is not None)
        return None, dict.fromkeys(keys, unread), {}

    def _decide(self, key: bytes, epoch: bytes, stored: bytes | None) -> LookUp:
        if stored is None:
            return Miss(epoch, None)
        found = parse_value(key, epoch, stored)
        if found is not None:
            version, tag, body = found
            return Hit(version, tag, body, epoch, stored)
        match decode(key, stored):
            case Value(known, None) if known == epoch:
                return Hit(b"", b"", None, epoch, stored)
            case Tombstone() as tombstone if self.counts_in(tombstone, epoch):
                return Bypass("tombstone", has_term=True)
            case Lease(known) if known == epoch:
                return Leased()
        return Miss(epoch, stored)

    def counts_in(self, _tombstone: Tombstone, _epoch: bytes) -> bool:
        """Return True: a tombstone may be older than the epoch while its write is not."""
        return True

    async def _look(
        self, keys: Sequence[bytes] = (), *, in_lines: bool = False
    ) -> tuple[bytes | None, str, Mapping[bytes, bytes]]:
        """Return the epoch, or None and the reason not to use the node; and the values of the keys.

        With `in_lines`, the values may be `Lines`. The epoch is read first: the process that set it
        had begun its quarantine before.
        """
        before = [self._epoch_key, self._quarantine_key]
        if in_lines:
            found = await self._node.get_lines(before, keys)
        else:
            found = await self._node.get_many([*before, *keys])
        value = found.get(self._epoch_key, b"")
        if value != self._decoded[0]:
            self._decoded = value, decode_epoch(value)
        epoch = self._decoded[1]
        if epoch is not None and epoch.term:
            self.term = epoch.term
            self._fence.known = max(self._fence.known, epoch.term)
        reason, quarantine = QUARANTINE, None
        if epoch is None:
            # Also if another process sets the epoch first: its quarantine may be too short.
            await self._begin_quarantine()
            await self._set_epoch(is_quarantined=True)
        elif epoch.list_id != self.list_id:
            reason = OTHER_SERVER_LIST
        else:
            quarantine = found.get(self._quarantine_key)
            if quarantine is None or quarantine == self.ended_quarantine:
                return epoch.word, "", found
            if self._is_too_short(quarantine):
                await self._begin_quarantine()
        self.on_unusable(reason, quarantine)
        return None, reason, {}
