"""Checks recorded answers for linearizability.

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
UNNAMED = -1  # no member has the name; the answer does not show in which generation


class Answer(NamedTuple):
    """One request and its answer, if there was one."""

    start: float  # seconds; all on one monotonic clock
    end: float
    process: str  # the service process that received the request
    kind: Literal["read", "write"]
    register: int | str  # a memberId, or a name
    version: int | None  # None: unknown, for example after a failed PUT
    status: int = 200  # of the HTTP answer; 0: the connection broke
    body: int = 0  # a hash of the body; 0: not recorded

    @property
    def is_certain(self) -> bool:
        """True if its version certainly existed when it ended."""
        return self.version is not None and (self.kind == "read" or 200 <= self.status < 300)


class Anomaly(NamedTuple):
    """A read, and the answer that it contradicts."""

    kind: Literal["stale", "backward"]
    read: Answer
    version: int  # the version of the read, inferred where the answer has none
    against: Answer
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
    """The newest version that is certain, and the answer that proves it."""

    def __init__(self) -> None:
        self.version = -1
        self.answer: Answer | None = None

    def rise(self, version: int, answer: Answer) -> None:
        if version > self.version:
            self.version, self.answer = version, answer


def find_anomalies(
    answers: Iterable[Answer], partitions: Sequence[Window] = (), grace: float = 0.0
) -> list[Anomaly]:
    """Return every read that is stale or backward, in the order in which they began.

    Answers during a partition, or in the `grace` seconds after it, count as evidence against
    others only `grace` seconds later: reads may be that stale, and no more.
    """
    registers: dict[int | str, list[Answer]] = defaultdict(list)
    for answer in answers:
        registers[answer.register].append(answer)
    found = [
        anomaly
        for history in registers.values()
        for anomaly in _anomalies_of(history, partitions, grace)
    ]
    return sorted(found, key=lambda anomaly: anomaly.read.start)


def _anomalies_of(
    history: list[Answer], partitions: Sequence[Window], grace: float
) -> Iterator[Anomaly]:
    """Pass over the answers by start, in step with a pass by end."""
    by_start = sorted(history, key=lambda answer: answer.start)
    known_from = [known_since(answer, partitions, grace) for answer in by_start]
    by_end = sorted(range(len(by_start)), key=known_from.__getitem__)
    begun = _Begun(by_start)
    versions: list[int | None] = [answer.version for answer in by_start]
    written, seen = _Floor(), _Floor()
    ended = 0
    for i, answer in enumerate(by_start):
        while ended < len(by_end) and known_from[by_end[ended]] < answer.start:
            j = by_end[ended]
            version, earlier = versions[j], by_start[j]
            if version is not None and earlier.is_certain:
                (written if earlier.kind == "write" else seen).rise(version, earlier)
            ended += 1
        if answer.version == UNNAMED and answer.kind == "read":
            versions[i] = _unnamed(max(written.version, seen.version, 0), begun.by(answer.end))
        if answer.kind == "read" and (anomaly := _check_read(answer, versions[i], written, seen)):
            yield anomaly


def _check_read(
    answer: Answer, version: int | None, written: _Floor, seen: _Floor
) -> Anomaly | None:
    if version is None:
        return None
    if written.answer and version < written.version:
        return Anomaly("stale", answer, version, written.answer, written.version)
    if seen.answer and version < seen.version:
        return Anomaly("backward", answer, version, seen.answer, seen.version)
    return None


def known_since(answer: Answer, partitions: Sequence[Window], grace: float) -> float:
    """Return the time from which a read must not be older than this answer."""
    for start, end in partitions:
        if start <= answer.end <= end + grace:
            return answer.end + grace
    return answer.end


def _unnamed(certain: int, begun: int) -> int:
    """Return the generation without the name: the first that is recent enough, if possible."""
    generation = certain + certain % 2
    return generation if generation <= begun else begun - begun % 2


class _Begun:
    """The newest version that any write of a register had begun to make by a given time."""

    def __init__(self, by_start: list[Answer]) -> None:
        writes = [a for a in by_start if a.kind == "write" and a.version is not None]
        self._starts = [write.start for write in writes]
        self._newest = list(accumulate((write.version or 0 for write in writes), max))

    def by(self, time: float) -> int:
        count = bisect_right(self._starts, time)
        return self._newest[count - 1] if count else 0


def with_versions(answers: Iterable[Answer]) -> list[Answer]:
    """Fill in the versions of reads whose answer has a body alone, as the items of batches have.

    The version is that of another answer with the same body: no two writes have the same content.
    """
    known = {}
    answers = list(answers)
    for answer in answers:
        if answer.body and answer.version is not None:
            known[answer.register, answer.body] = answer.version
    return [
        answer._replace(version=known.get((answer.register, answer.body)))
        if answer.body and answer.version is None
        else answer
        for answer in answers
    ]


def find_contradictions(answers: Iterable[Answer]) -> list[tuple[Answer, Answer]]:
    """Return the answers that gave one version of a member two bodies."""
    first: dict[tuple[int | str, int], Answer] = {}
    found = []
    for answer in answers:
        if answer.body and answer.version is not None:
            other = first.setdefault((answer.register, answer.version), answer)
            if other.body != answer.body:
                found.append((other, answer))
    return found


def find_lost(answers: Iterable[Answer]) -> list[Answer]:
    """Return the reads that found a member gone before any delete began."""
    gone = [answer for answer in answers if answer.version == GONE]
    deleted: dict[int | str, float] = {}
    for answer in gone:
        if answer.kind == "write":
            known = deleted.get(answer.register, answer.start)
            deleted[answer.register] = min(known, answer.start)
    never = float("inf")
    reads = [answer for answer in gone if answer.kind == "read"]
    return [answer for answer in reads if answer.end < deleted.get(answer.register, never)]
