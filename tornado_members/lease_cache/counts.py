"""Counters of the cache in this process since its start, for metrics."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class CacheCounts:
    """Each read is a hit, a miss or a bypass. A miss is stored, or is not for a reason."""

    hits: int = 0
    misses: int = 0
    fills: int = 0  # misses that were stored
    # Misses that were not stored: leased to another reader, overtaken by a write, or node
    # unavailable.
    refused_fills: Counter[str] = field(default_factory=Counter)
    bypasses: Counter[str] = field(default_factory=Counter)  # reads past the cache, by reason
    unannounced_writes: int = 0  # writes that went on without a tombstone
    marked_stale: int = 0  # times that a node was found to need a new epoch
    epochs_set: int = 0
    doubtful_loads: int = 0  # from a primary that others may have replaced; they were repeated
