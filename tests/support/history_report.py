"""Describes the anomalies in a record of operations."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.faults import HARMLESS, PARTITIONS, Injected
from tests.support.histories import (
    GONE,
    UNNAMED,
    Anomaly,
    Operation,
    Window,
    find_anomalies,
    find_contradictions,
    find_lost,
    with_versions,
)
from tests.support.hot_members import Record

_AFTERMATH = 5.0  # seconds in which a fault may still cause a failure


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """The anomalies of a history, and its other wrong responses; none if it is correct."""

    anomalies: list[Anomaly]
    others: list[str]  # wrong in another way than stale
    lines: list[str]  # descriptions of the anomalies and of the others

    @property
    def stale(self) -> int:
        """The number of reads older than an acknowledged write."""
        return sum(anomaly.kind == "stale" for anomaly in self.anomalies)

    @property
    def backward(self) -> int:
        """The number of other reads older than an earlier read."""
        return len(self.anomalies) - self.stale


def check_record(record: Record, injected: Sequence[Injected], grace: float) -> HistoryReport:
    """`grace` is the number of seconds for which a partition may make reads stale."""
    partitions = [Window(f.start, f.end) for f in injected if f.kind in PARTITIONS]
    operations = with_versions(record.operations)
    anomalies = find_anomalies(operations, partitions, grace)
    others = [
        *record.wrong_responses,
        *_torn(operations),
        *_lost(operations),
        *_needless(record, injected),
    ]
    began = min((operation.start for operation in record.operations), default=0)
    return HistoryReport(
        anomalies,
        others,
        [*(_describe(anomaly, injected, began) for anomaly in anomalies), *others],
    )


def _torn(operations: Sequence[Operation]) -> list[str]:
    return [
        f"{a.process} and {b.process} gave two bodies for {_named(a)}, version {a.version}"
        for a, b in find_contradictions(operations)
    ]


def _lost(operations: Sequence[Operation]) -> list[str]:
    return [
        f"{operation.process}: {_named(operation)} was gone before any delete began"
        for operation in find_lost(operations)
    ]


def _needless(record: Record, injected: Sequence[Injected]) -> list[str]:
    """Return each 5xx that only the cache can have caused."""
    reasons = [fault for fault in injected if fault.kind not in HARMLESS]
    return [
        f"{process} responded with {status}, while only the cache failed"
        for when, process, status in record.failures
        if not any(f.start - _AFTERMATH < when < f.end + _AFTERMATH for f in reasons)
    ]


def _describe(anomaly: Anomaly, injected: Sequence[Injected], began: float) -> str:
    """Describe an anomaly. Times count from the first request."""
    read, known = anomaly.read, anomaly.against
    during = [f.kind for f in injected if f.start <= read.end and known.start <= f.end]
    return (
        f"{anomaly.kind}: {read.process} at {_when(read, began)} returned "
        f"{_version(anomaly.version)} of "
        f"{_named(read)}, but {_version(anomaly.known)} was known for {anomaly.age * 1000:.1f} ms, "
        f"from a "
        f"{known.kind} through {known.process} at {_when(known, began)}; "
        f"faults: {', '.join(during) or 'none'}"
    )


def _when(operation: Operation, began: float) -> str:
    return f"{operation.start - began:.4f}..{operation.end - began:.4f} s"


def _named(operation: Operation) -> str:
    is_member = isinstance(operation.register, int)
    return f"member {operation.register}" if is_member else f"the name {operation.register!r}"


def _version(version: int) -> str:
    words = {GONE: "the end", UNNAMED: "nothing"}
    return words.get(version, f"version {version}")
