"""A summary of the service for GET /status: its health, and the totals of its counters."""

from typing import Any, Final

from tornado_members.admin.status import ServiceStatus
from tornado_members.telemetry.metrics import SECONDS, Family, Histogram

_DURATIONS: Final = "members_http_request_duration_seconds"
_READS: Final = "members_cache_reads"
_WORKERS: Final = "members_workers"


def summarize(status: ServiceStatus) -> dict[str, Any]:
    """Return the summary as a JSON-compatible object.

    The counters only rise, so that a reader computes rates from two summaries. `durations` has the
    number of requests up to each of `bounds` (seconds), and last the number of slower ones.
    """
    families = {family.name: family for family in status.collect()}
    durations = _sum_of(families.get(_DURATIONS))
    reads = families[_READS].values if _READS in families else {}
    workers = families[_WORKERS].values if _WORKERS in families else {}
    return {
        **status.report().to_dict(),
        "workers": workers.get((), 1),
        "requests": {"bounds": [*durations.bounds], "durations": durations.counts},
        "cache": {result: reads.get((result,), 0) for result in ("hit", "miss", "bypass")},
    }


def _sum_of(family: Family | None) -> Histogram:
    total = Histogram(SECONDS)
    for value in family.values.values() if family else ():
        if isinstance(value, Histogram):
            total.add(value)
    return total
