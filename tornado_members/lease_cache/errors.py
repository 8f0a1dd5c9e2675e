"""Exceptions of the cache. Other exceptions come from the code that its callers pass to it."""


class CacheError(Exception):
    """The cache could not do for certain what it was asked for."""


class NodeUnavailable(CacheError):
    """A node did not reply, not in time, or not sensibly. The outcome is unknown."""


class StoreUnavailable(CacheError):
    """The shared store did not reply in time."""


class NotAnnounced(CacheError):
    """A write could not be announced, and must not proceed. Nothing was written."""
