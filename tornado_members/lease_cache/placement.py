"""Where a key lives: its namespace, and its node."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar


class _Addressed(Protocol):
    address: str


N = TypeVar("N", bound=_Addressed)


def namespace_prefix(namespace: str) -> bytes:
    """What the keys of a namespace begin with: caches of several may share their servers."""
    return digest(namespace.encode(), size=6).hex().encode()


def place(nodes: Sequence[N], key: bytes) -> N | None:
    """The node of a key, by rendezvous hashing (Thaler and Ravishankar, 1998).

    The order of the list does not matter; a node that is added or removed moves only its own share
    of the keys. None if there is no node at all.
    """
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    return max(nodes, key=lambda node: _weight(node.address.encode(), key))


def digest(data: bytes, size: int) -> bytes:
    """`size` bytes that stand for any number of them."""
    return blake2b(data, digest_size=size).digest()


def _weight(address: bytes, key: bytes) -> bytes:
    return digest(digest(address, size=16) + key, size=8)
