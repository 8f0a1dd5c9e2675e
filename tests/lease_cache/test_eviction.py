"""The amount that a Memcached node must store before it evicts a tombstone."""

from tests.lease_cache.test_lease_cache import PREFIX, own_memcached, protocol
from tests.support.memcached import send_to_memcached, stored_keys
from tornado_members.lease_cache.commands import Put
from tornado_members.lease_cache.memcached import MemcachedNode

BATCH = 200
VALUE = b"x" * 60  # in the same slab class as the tombstone


async def store(node: MemcachedNode, first: int) -> list[bytes]:
    keys = [PREFIX + b"%09d" % number for number in range(first, first + BATCH)]
    assert None not in await node.put_many([Put(key, VALUE, 60) for key in keys])
    return keys


def evictions(address: str) -> int:
    stats = send_to_memcached(address, b"stats\r\n")
    (line,) = (line for line in stats.splitlines() if line.startswith(b"STAT evictions "))
    return int(line.split()[2])


def is_stored(address: str, key: bytes) -> bool:
    """Check without reading: a read entry is kept longer."""
    return send_to_memcached(address, b"me %b\r\nverbosity 0\r\n" % key).startswith(b"ME ")


async def test_tombstone_is_evicted_only_by_more_than_half_of_what_a_full_node_holds() -> None:
    """The other entries are read constantly, so that the node prefers to keep them."""
    async with own_memcached("-m", "4") as (_, address), protocol(address, seconds=60) as writer:
        node = MemcachedNode(address, timeout=5)
        number = 0
        while not evictions(address):
            await store(node, number)
            number += BATCH
        held = len(stored_keys(address, 1))
        for start in range(max(0, number - held), number, BATCH):  # these are active now
            keys = [PREFIX + b"%09d" % each for each in range(start, start + BATCH)]
            for _ in range(2):
                await node.get_many(keys)
        tombstone = PREFIX + b"tombstone"
        await writer.place_tombstones([tombstone], b"0123456789abcdef")
        stored = 0
        while is_stored(address, tombstone) and stored < 10 * held:
            for _ in range(5):
                await store(node, number)
                number, stored = number + BATCH, stored + BATCH
        assert stored < 10 * held, "it was never evicted"
        assert stored > held / 2, (stored, held)
        await node.close()
