"""The interface of the cache, as the directory uses it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from tornado_members.lease_cache.cache import AnnouncedWrite
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import Found, LookUp, NotHit
from tornado_members.lease_cache.reads import LoadMany

T = TypeVar("T")


class Cache(Protocol):
    """The methods of LeaseCache that the directory and services.py use."""

    counts: CacheCounts

    async def open(self) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102
    async def read(  # noqa: D102
        self,
        key: bytes,
        load: Callable[[], Awaitable[Entry | None]],
        *,
        rejected: Entry | None = None,
        look_up: LookUp | None = None,
    ) -> Found: ...
    async def load(  # noqa: D102
        self, keys: Sequence[bytes], load: Callable[[], Awaitable[T]]
    ) -> T: ...
    def look_up(self, keys: Sequence[bytes]) -> Awaitable[Sequence[LookUp]]: ...  # noqa: D102
    async def look_up_bodies(  # noqa: D102
        self, keys: KeyList, tag_end: bytes
    ) -> tuple[list[bytes], list[LookUp]]: ...
    async def fill(  # noqa: D102
        self, look_ups: Mapping[bytes, NotHit], load: LoadMany, *, unless_read: bool = False
    ) -> Mapping[bytes, Found]: ...
    def changing(  # noqa: D102
        self, *keys: bytes
    ) -> AbstractAsyncContextManager[AnnouncedWrite]: ...
    def states(self) -> Mapping[str, str | None]: ...  # noqa: D102
    async def wait_for_failure(self) -> None: ...  # noqa: D102
    def server_list_conflict(self) -> str | None: ...  # noqa: D102
    async def invalidate(self, keys: Iterable[bytes]) -> bool: ...  # noqa: D102
    async def invalidate_for_all(self, keys: Iterable[bytes]) -> None: ...  # noqa: D102
    async def renew_epochs(self) -> bool: ...  # noqa: D102
