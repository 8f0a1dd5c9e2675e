"""The nodes of the list of servers in force, and the place of a key among them."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from tornado_members.lease_cache.cache_node import CacheNode
from tornado_members.lease_cache.placement import place
from tornado_members.lease_cache.registry import ServerList
from tornado_members.lease_cache.writes import WritesUnderWay


class NodePool:
    """The nodes of this process. While one list replaces another, it has those of both."""

    def __init__(self, make_node: Callable[[str], CacheNode], writes: WritesUnderWay) -> None:
        """`make_node` returns the node at an address."""
        self.nodes: tuple[CacheNode, ...] = ()  # of the list in force
        self.all: tuple[CacheNode, ...] = ()  # of both lists
        self.is_read = False  # False while another process may still use another list
        self._replaced: tuple[CacheNode, ...] = ()  # of the list that is being replaced
        self._by_address: dict[str, CacheNode] = {}
        self._make_node = make_node
        self._writes = writes

    def __iter__(self) -> Iterator[CacheNode]:
        """Iterate over the nodes of both lists."""
        return iter(self.all)

    async def use(self, in_force: ServerList) -> None:
        """Use a list from now on; return when all earlier writes are over.

        Nodes that are no longer in any list are closed.
        """
        before = self._writes.current()
        replaced = in_force.replaces or ()
        new = [one for one in (*in_force.servers, *replaced) if one not in self._by_address]
        self._by_address |= {address: self._make_node(address) for address in dict.fromkeys(new)}
        self.all = tuple(self._by_address.values())
        for node in self:
            node.protocol.list_id = in_force.id.encode()
        self.nodes = tuple(self._by_address[address] for address in in_force.servers)
        self._replaced = tuple(self._by_address[address] for address in replaced)
        self.is_read = in_force.replaces is None
        await asyncio.gather(*(self._by_address[address].open() for address in dict.fromkeys(new)))
        await self._writes.wait_for(before)
        for address in {*self._by_address} - {*in_force.servers, *replaced}:
            ended = self._by_address.pop(address)
            self.all = tuple(self._by_address.values())
            await ended.close()

    async def claim(self) -> None:
        """Empty every node, and claim it for the list in force.

        Raises StoreUnavailable if the list in force cannot be confirmed.
        """
        await asyncio.gather(*(node.claim() for node in self))

    async def close(self) -> None:
        """Close every node."""
        await asyncio.gather(*(node.close() for node in self))

    def place(self, key: bytes) -> CacheNode | None:
        """Return the node from which a key is read; None without nodes."""
        return place(self.nodes, key)

    def places(self, keys: Iterable[bytes]) -> Mapping[CacheNode, Sequence[bytes]]:
        """Return the keys by the node from which they are read."""
        return _group([(self.nodes, key) for key in keys])

    def places_of_writes(self, keys: Sequence[bytes]) -> dict[CacheNode, list[bytes]]:
        """Return the keys by the nodes from which this or another process may read them."""
        if len(self.nodes) == 1 and not self._replaced:
            return {self.nodes[0]: [*dict.fromkeys(keys)]}
        lists = [self.nodes, self._replaced]
        places = _group([(nodes, key) for nodes in lists for key in keys])
        return {node: [*dict.fromkeys(its_keys)] for node, its_keys in places.items()}


def _group(
    keys: Iterable[tuple[Sequence[CacheNode], bytes]],
) -> dict[CacheNode, list[bytes]]:
    """Return keys grouped by node; each key comes with the nodes to choose from."""
    places: dict[CacheNode, list[bytes]] = {}
    for nodes, key in keys:
        node = place(nodes, key)
        if node is not None:
            places.setdefault(node, []).append(key)
    return places
