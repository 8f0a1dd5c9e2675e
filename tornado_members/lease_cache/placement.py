"""The place of a key: its namespace and its node."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol, TypeVar


class _Addressed(Protocol):
    address: str


N = TypeVar("N", bound=_Addressed)


def namespace_prefix(namespace: str) -> bytes:
    """Return the prefix of a namespace's keys: caches of several namespaces may share servers."""
    return digest(namespace.encode(), size=6).hex().encode()


def place(nodes: Sequence[N], key: bytes) -> N | None:
    """Return the node of a key, by rendezvous hashing (Thaler and Ravishankar, 1998).

    The order of the list does not matter; a node that is added or removed moves only its own share
    of the keys. Without nodes, returns None.
    """
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    return max(nodes, key=lambda node: _weight(node.address.encode(), key))


def digest(data: bytes, size: int) -> bytes:
    """Return a digest of `size` bytes."""
    return blake2b(data, digest_size=size).digest()


def _weight(address: bytes, key: bytes) -> bytes:
    return digest(_digest_of_address(address) + key, size=8)


@lru_cache(256)
def _digest_of_address(address: bytes) -> bytes:
    return digest(address, size=16)
