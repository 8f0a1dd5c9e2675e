"""Announce writes to the cache, and send them only while they are announced."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tornado_members.directory.cache import Cache
from tornado_members.errors import DependencyUnavailable, Problem
from tornado_members.lease_cache.errors import NotAnnounced
from tornado_members.storage.members import IdTaken
from tornado_members.storage.write_window import write_window


@asynccontextmanager
async def announced(cache: Cache, *keys: bytes) -> AsyncIterator[None]:
    """Write members whose entries have these keys, while their tombstones last.

    Raises DependencyUnavailable before the write if the cache cannot place tombstones.
    """
    try:
        async with announced_if_possible(cache, *keys):
            yield
    except NotAnnounced as error:
        raise DependencyUnavailable(
            "The cache could not be invalidated, so nothing was written."
        ) from error


@asynccontextmanager
async def announced_if_possible(cache: Cache, *keys: bytes) -> AsyncIterator[None]:
    """The same, but raises NotAnnounced if the cache cannot place tombstones."""
    async with cache.changing(*keys) as write:
        try:
            with write_window(write.seconds_left):
                yield
        except DependencyUnavailable:  # the outcome is unknown
            raise
        except (Problem, IdTaken):
            write.void()
            raise
