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
from tornado_members.lease_cache.get_commands import EntryLines, parse_values
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import Bodies, Bypass, Hit, Leased, LookUp, Miss


class NodeReads(NodeEpoch):
    """Reads the node. Keys are complete: with the namespace, and valid for Memcached."""

    async def probe(self) -> None:
        """Read the epoch of the node, and begin one if it has none; store a newer term."""
        await self._read_state()
        await self.raise_term()

    async def look_up(self, keys: Sequence[bytes]) -> list[LookUp]:
        """Send one request, and decide how each of the keys may be read."""
        try:
            epoch, reason, stored = await self._read_state(keys)
        except NodeUnavailable:
            return [Bypass("node-unavailable")] * len(keys)
        if epoch is None:
            return [self._unread(reason)] * len(keys)
        decide, get = self._decide, stored.get
        return [decide(key, epoch, get(key)) for key in keys]

    async def look_up_bodies(self, keys: KeyList, tag_end: bytes) -> list[LookUp] | Bodies:
        """Send one request; return the bodies if each key is a hit whose tag ends with `tag_end`.

        Otherwise, return the look-up of each key.
        """
        try:
            found, stored = await self._node.get_entries(self._epoch_keys(), keys)
            epoch, reason = await self._epoch_in(found)
            if epoch is None:
                return [self._unread(reason)] * keys.count
            if isinstance(stored, EntryLines):
                if are_entries(stored, keys, epoch, tag_end):
                    return Bodies(keys, epoch, stored)
                stored = parse_values(stored.reply, keys)
        except (NodeUnavailable, ConnectionError):
            return [Bypass("node-unavailable")] * keys.count
        decide, get = self._decide, stored.get
        return [decide(key, epoch, get(key)) for key in keys]

    def _unread(self, reason: str) -> Bypass:
        """Return how keys are read past the node."""
        return Bypass(reason, has_term=self._decoded[1] is not None)

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

    def _epoch_keys(self) -> tuple[bytes, bytes]:
        """Return the keys that are read before those of entries."""
        return self._epoch_key, self._quarantine_key

    async def _read_state(
        self, keys: Sequence[bytes] = ()
    ) -> tuple[bytes | None, str, Mapping[bytes, bytes]]:
        """Return the epoch, or None and the reason not to use the node; and the values of the keys.

        The epoch is read first: the process that set it had begun its quarantine before.
        """
        found = await self._node.get_many([*self._epoch_keys(), *keys])
        return *await self._epoch_in(found), found

    async def _epoch_in(self, found: Mapping[bytes, bytes]) -> tuple[bytes | None, str]:
        """Return the epoch in a reply, or None and the reason not to use the node."""
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
                return epoch.word, ""
            if self._is_too_short(quarantine):
                await self._begin_quarantine()
        self.on_unusable(reason, quarantine)
        return None, reason
