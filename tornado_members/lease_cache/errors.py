"""Exceptions of the cache. Other exceptions come from the code that its callers pass to it."""


class CacheError(Exception):
    """The cache did not confirm an operation."""


class NodeUnavailable(CacheError):
    """A node did not reply in time, or its reply was malformed. The outcome is unknown."""


class StoreUnavailable(CacheError):
    """The shared store did not reply in time."""


class NotAnnounced(CacheError):
    """A write could not be announced, and must not proceed. Nothing was written."""
