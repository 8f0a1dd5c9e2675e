"""Metrics of the feed."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

# Reasons for which streams end. Each counter begins at 0: Prometheus sees no increase in a counter
# that appears with a value.
_DISCONNECTION_REASONS: Final = (
    "client",
    "displaced",
    "drain",
    "expired",
    "failed",
    "lagging",
    "lost",
    "slow",
)


@dataclass(slots=True)
class FeedMetrics:
    """Counts and gauges of this process."""

    subscribers: int = 0
    events_sent: int = 0
    lag_seconds: float = 0.0  # from the last change to the end of its distribution, by two clocks
    catch_ups: int = 0  # streams that were opened for subscribers that resume far behind
    reopened: int = 0  # after the change stream broke
    # By reason.
    disconnections: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(_DISCONNECTION_REASONS, 0))
    )
