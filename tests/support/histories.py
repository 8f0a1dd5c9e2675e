"""Checks recorded operations for linearizability.

A *register* has states that all clients must see in the same order. It is a member, identified by
its id, or a name. The states of a member are its versions (ETags) and then GONE: an id is never
used again. A name that only one writer assigns and removes has generations: 0 before it was first
assigned, 1 assigned, 2 removed, 3 assigned again. A read that finds a name knows its generation by
the id; a read that finds none (UNNAMED) saw an even generation, and the checker assumes the most
favourable one.

A read is *stale* if it is older than a write that was acknowledged before the read began. It is
*backward* if it is not stale, but older than the result of a read that ended before it began.
Overlapping operations may take effect in either order. A write with an unknown outcome (5xx, a
broken connection) may take effect at any later time or never, so nothing follows from it.

A read by name counts as a read of the member that it returned. A name that several writers assign
is not checked, because the order of its changes is unknown; a read that finds none is not recorded.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

GONE = 2**62  # the version of a member that was deleted
UNNAMED = -1  # no member has the name; the response does not show in which generation


class Operation(NamedTuple):
    """One request and its response, if there was one."""

    start: float  # seconds; all on one monotonic clock
    end: float
    process: str  # the service process that received the request
    kind: Literal["read", "write"]
    register: int | str  # a memberId, or a name
    version: int | None  # None: unknown, for example after a failed PUT
    status: int = 200  # of the HTTP response; 0: the connection broke
    body: int = 0  # a hash of the body; 0: not recorded

    @property
    def is_certain(self) -> bool:
        """True if its version certainly existed when it ended."""
        return self.version is not None and (self.kind == "read" or 200 <= self.status < 300)


class Anomaly(NamedTuple):
    """A read, and the operation that it contradicts."""

    kind: Literal["stale", "backward"]
    read: Operation
    version: int  # the version of the read, inferred where the response has none
    against: Operation
    known: int  # the version that was certain when the read began

    @property
    def age(self) -> float:
        """Seconds for which the read's version had been known to be old when the read began."""
        return self.read.start - self.against.end


class Window(NamedTuple):
    """A time in which one process could not reach a node that others could."""

    start: float
    end: float


class _Floor:
    """The newest version that is certain, and the operation that proves it."""

    def __init__(self) -> None:
        self.version = -1
        self.operation: Operation | None = None

    def rise(self, version: int, operation: Operation) -> None:
        if version > self.version:
            self.version, self.operation = version, operation


def find_anomalies(
    operations: Iterable[Operation], partitions: Sequence[Window] = (), grace: float = 0.0
) -> list[Anomaly]:
    """Return every read that is stale or backward, in the order in which they began.

    Operations during a partition, or in the `grace` seconds after it, count as evidence against
    others only `grace` seconds later: reads may be that stale, and no more.
    """
    registers: dict[int | str, list[Operation]] = defaultdict(list)
    for operation in operations:
        registers[operation.register].append(operation)
    found = [
        anomaly
        for history in registers.values()
        for anomaly in _anomalies_of(history, partitions, grace)
    ]
    return sorted(found, key=lambda anomaly: anomaly.read.start)


def _anomalies_of(
    history: list[Operation], partitions: Sequence[Window], grace: float
) -> Iterator[Anomaly]:
    """Pass over the operations by start, in step with a pass by end."""
    by_start = sorted(history, key=lambda operation: operation.start)
    known_from = [known_since(operation, partitions, grace) for operation in by_start]
    by_end = sorted(range(len(by_start)), key=known_from.__getitem__)
    begun = _Begun(by_start)
    versions: list[int | None] = [operation.version for operation in by_start]
    written, seen = _Floor(), _Floor()
    ended = 0
    for i, operation in enumerate(by_start):
        while ended < len(by_end) and known_from[by_end[ended]] < operation.start:
            j = by_end[ended]
            version, earlier = versions[j], by_start[j]
            if version is not None and earlier.is_certain:
                (written if earlier.kind == "write" else seen).rise(version, earlier)
            ended += 1
        if operation.version == UNNAMED and operation.kind == "read":
            versions[i] = _unnamed(max(written.version, seen.version, 0), begun.by(operation.end))
        if operation.kind == "read" and (
            anomaly := _check_read(operation, versions[i], written, seen)
        ):
            yield anomaly


def _check_read(
    operation: Operation, version: int | None, written: _Floor, seen: _Floor
) -> Anomaly | None:
    if version is None:
        return None
    if written.operation and version < written.version:
        return Anomaly("stale", operation, version, written.operation, written.version)
    if seen.operation and version < seen.version:
        return Anomaly("backward", operation, version, seen.operation, seen.version)
    return None


def known_since(operation: Operation, partitions: Sequence[Window], grace: float) -> float:
    """Return the time from which a read must not be older than this operation."""
    for start, end in partitions:
        if start <= operation.end <= end + grace:
            return operation.end + grace
    return operation.end


def _unnamed(certain: int, begun: int) -> int:
    """Return the generation without the name: the first that is recent enough, if possible."""
    generation = certain + certain % 2
    return generation if generation <= begun else begun - begun % 2


class _Begun:
    """The newest version that any write of a register had begun to make by a given time."""

    def __init__(self, by_start: list[Operation]) -> None:
        writes = [a for a in by_start if a.kind == "write" and a.version is not None]
        self._starts = [write.start for write in writes]
        self._newest = list(accumulate((write.version or 0 for write in writes), max))

    def by(self, time: float) -> int:
        count = bisect_right(self._starts, time)
        return self._newest[count - 1] if count else 0


def with_versions(operations: Iterable[Operation]) -> list[Operation]:
    """Fill in the versions of reads whose response has a body only, such as items of batches.

    The version is that of another response with the same body: no two writes have the same content.
    """
    known = {}
    operations = list(operations)
    for operation in operations:
        if operation.body and operation.version is not None:
            known[operation.register, operation.body] = operation.version
    return [
        operation._replace(version=known.get((operation.register, operation.body)))
        if operation.body and operation.version is None
        else operation
        for operation in operations
    ]


def find_contradictions(operations: Iterable[Operation]) -> list[tuple[Operation, Operation]]:
    """Return the pairs of operations with different bodies of one version of a member."""
    first: dict[tuple[int | str, int], Operation] = {}
    found = []
    for operation in operations:
        if operation.body and operation.version is not None:
            other = first.setdefault((operation.register, operation.version), operation)
            if other.body != operation.body:
                found.append((other, operation))
    return found


def find_lost(operations: Iterable[Operation]) -> list[Operation]:
    """Return the reads that found a member gone before any delete began."""
    absent = [operation for operation in operations if operation.version == GONE]
    deleted: dict[int | str, float] = {}
    for operation in absent:
        if operation.kind == "write":
            known = deleted.get(operation.register, operation.start)
            deleted[operation.register] = min(known, operation.start)
    never = float("inf")
    reads = [operation for operation in absent if operation.kind == "read"]
    return [
        operation for operation in reads if operation.end < deleted.get(operation.register, never)
    ]
