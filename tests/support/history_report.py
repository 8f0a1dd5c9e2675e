"""Describes what a record of answers proves."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.faults import HARMLESS, PARTITIONS, Injected
from tests.support.histories import (
    GONE,
    UNNAMED,
    Anomaly,
    Answer,
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
    """`grace` is the number of seconds for which a partition may make answers stale."""
    partitions = [Window(f.start, f.end) for f in injected if f.kind in PARTITIONS]
    answers = with_versions(record.answers)
    anomalies = find_anomalies(answers, partitions, grace)
    others = [*record.wrong_answers, *_torn(answers), *_lost(answers), *_needless(record, injected)]
    began = min((answer.start for answer in record.answers), default=0)
    return HistoryReport(
        anomalies,
        others,
        [*(_describe(anomaly, injected, began) for anomaly in anomalies), *others],
    )


def _torn(answers: Sequence[Answer]) -> list[str]:
    return [
        f"{a.process} and {b.process} gave two bodies for {_named(a)}, version {a.version}"
        for a, b in find_contradictions(answers)
    ]


def _lost(answers: Sequence[Answer]) -> list[str]:
    return [
        f"{answer.process}: {_named(answer)} was gone before any delete began"
        for answer in find_lost(answers)
    ]


def _needless(record: Record, injected: Sequence[Injected]) -> list[str]:
    """Return each 5xx that only the cache can have caused."""
    reasons = [fault for fault in injected if fault.kind not in HARMLESS]
    return [
        f"{process} answered {status}, with nothing wrong but the cache"
        for when, process, status in record.failures
        if not any(f.start - _AFTERMATH < when < f.end + _AFTERMATH for f in reasons)
    ]


def _describe(anomaly: Anomaly, injected: Sequence[Injected], began: float) -> str:
    """Describe a wrong answer and the one it contradicts. Times count from the first request."""
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


def _when(answer: Answer, began: float) -> str:
    return f"{answer.start - began:.4f}..{answer.end - began:.4f} s"


def _named(answer: Answer) -> str:
    is_member = isinstance(answer.register, int)
    return f"member {answer.register}" if is_member else f"the name {answer.register!r}"


def _version(version: int) -> str:
    words = {GONE: "the end", UNNAMED: "nothing"}
    return words.get(version, f"version {version}")
