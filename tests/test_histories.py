"""The checker of histories finds every history with an anomaly, and accepts all others.

The tests of the cache's guarantee depend on it, so it is tested like a part of the product.
"""

import random
from functools import partial
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.histories import (
    GONE,
    UNNAMED,
    Anomaly,
    Operation,
    Window,
    find_anomalies,
    find_contradictions,
    find_lost,
    known_since,
    with_versions,
)
from tests.support.processor_time import costs_at_most


def read(start: float, end: float, version: int, register: int | str = 1) -> Operation:
    return Operation(start, end, "a", "read", register, version)


def write(
    start: float, end: float, version: int | None, register: int | str = 1, status: int = 200
) -> Operation:
    return Operation(start, end, "b", "write", register, version, status)


INNOCENT = {
    "nothing": [],
    "read your write": [write(0, 1, 2), read(2, 3, 2)],
    "a read that began before the write ended": [write(0, 2, 2), read(1, 3, 1)],
    "a read that began in the moment in which the write ended": [write(0, 2, 2), read(2, 3, 1)],
    "reads that overlap": [read(0, 5, 2), read(1, 6, 1), read(2, 3, 2), read(2, 4, 1)],
    "a read of what is being written": [write(0, 9, 2), read(1, 2, 2), read(3, 4, 2)],
    "a write that failed": [write(0, 1, None, status=503), read(2, 3, 1)],
    "a write that failed and did happen": [write(0, 1, None, status=0), read(2, 3, 2)],
    "other members": [write(0, 1, 9, register=2), read(2, 3, 1, register=1)],
    "writes that overlap": [write(0, 9, 3), write(1, 2, 2), read(3, 4, 2), read(5, 6, 3)],
    "gone": [write(0, 1, GONE), read(2, 3, GONE)],
    "a delete that failed": [write(0, 1, GONE, status=0), read(2, 3, 1)],
    "a delete that failed and did happen": [write(0, 1, GONE, status=0), read(2, 3, GONE)],
    "a name that was never given": [read(0, 1, UNNAMED, "n"), read(2, 3, UNNAMED, "n")],
    "a name that is given and taken away repeatedly": [
        read(0, 1, UNNAMED, "n"),
        write(2, 3, 1, "n"),
        read(4, 5, 1, "n"),
        write(6, 7, 2, "n"),
        read(8, 9, UNNAMED, "n"),
        write(10, 11, 3, "n"),
        read(12, 13, 3, "n"),
    ],
    "a name that is being given": [write(0, 9, 1, "n"), read(1, 2, UNNAMED, "n")],
    "a name that is being taken away": [
        write(0, 1, 1, "n"),
        write(2, 9, 2, "n"),
        read(3, 4, UNNAMED, "n"),
    ],
    "a name that was given and taken away before any response": [
        write(0, 9, 1, "n"),
        write(0, 9, 2, "n"),
        read(1, 2, 1, "n"),
        read(3, 4, UNNAMED, "n"),
    ],
    "a name that may have been taken away": [
        write(0, 1, 1, "n"),
        write(2, 3, 2, "n", status=0),
        read(4, 5, UNNAMED, "n"),
    ],
}

ANOMALOUS: dict[str, tuple[list[Operation], Literal["stale", "backward"]]] = {
    "a read after a write": ([write(0, 1, 2), read(2, 3, 1)], "stale"),
    "a read after a write, with another read between them": (
        [write(0, 1, 2), read(1.1, 1.9, 2), read(2, 3, 1)],
        "stale",
    ),
    "a read after a newer read": ([read(0, 1, 2), read(2, 3, 1)], "backward"),
    "while the write is under way": ([write(0, 9, 2), read(1, 2, 2), read(3, 4, 1)], "backward"),
    "after a write that failed, and was seen": (
        [write(0, 1, None, status=503), read(2, 3, 2), read(4, 5, 1)],
        "backward",
    ),
    "back from the dead": ([write(0, 1, GONE), read(2, 3, 7)], "stale"),
    "seen gone, then back": ([read(0, 1, GONE), read(2, 3, 7)], "backward"),
    "not there after it was given": ([write(0, 1, 1, "n"), read(2, 3, UNNAMED, "n")], "stale"),
    "not there before it was taken away": (
        [write(0, 1, 1, "n"), write(4, 5, 2, "n"), read(2, 3, UNNAMED, "n")],
        "stale",
    ),
    "not there after it was found": (
        [write(0, 9, 1, "n"), read(1, 2, 1, "n"), read(3, 4, UNNAMED, "n")],
        "backward",
    ),
    "there after it was not found": (
        [write(0, 1, 1, "n"), write(2, 9, 2, "n"), read(3, 4, UNNAMED, "n"), read(5, 6, 1, "n")],
        "backward",
    ),
    "there after it was taken away": (
        [write(0, 1, 1, "n"), write(2, 3, 2, "n"), read(4, 5, 1, "n")],
        "stale",
    ),
}


@pytest.mark.parametrize("history", INNOCENT.values(), ids=INNOCENT)
def test_find_anomalies_accepts_correct_histories(history: list[Operation]) -> None:
    assert find_anomalies(history) == []
    assert find_anomalies(reversed(history)) == []


@pytest.mark.parametrize(("history", "kind"), ANOMALOUS.values(), ids=ANOMALOUS)
def test_find_anomalies_finds_each_anomaly(history: list[Operation], kind: str) -> None:
    (anomaly,) = find_anomalies(history)
    assert anomaly.kind == kind
    assert anomaly.read == history[-1]
    assert anomaly.against.end < anomaly.read.start
    assert anomaly.version < anomaly.known
    assert [anomaly.read for anomaly in find_anomalies(reversed(history))] == [history[-1]]


def test_find_anomalies_allows_the_grace_period_of_a_partition_only() -> None:
    cut = [Window(0, 2)]
    history = [write(0.5, 1, 2), read(1.5, 1.6, 1), read(2.9, 3, 1), read(3.1, 3.2, 1)]
    (anomaly,) = find_anomalies(history, cut, grace=2)
    assert anomaly.read == history[-1]
    assert anomaly.age == pytest.approx(2.1)
    assert (
        len(find_anomalies([write(2.5, 3, 2), read(4, 5, 1)], cut, grace=2)) == 0
    )  # not yet noticed
    assert len(find_anomalies([write(4, 4.1, 2), read(5, 5.1, 1)], cut, grace=2)) == 1
    assert len(find_anomalies(history)) == 3


def test_find_contradictions_finds_two_bodies_of_one_version() -> None:
    operations = [read(i, i + 0.5, 1)._replace(body=body) for i, body in enumerate([5, 5, 0, 6])]
    assert find_contradictions(operations) == [(operations[0], operations[3])]
    assert find_contradictions([operations[0], operations[3]._replace(version=2)]) == []


def test_with_versions_finds_the_version_of_the_items_of_batches() -> None:
    """By their bodies. An item that no other response contains proves nothing."""
    made = write(0, 1, 2)._replace(body=5)
    changed = write(2, 3, 3)._replace(body=6)
    late, unknown = (read(4, 5, 0)._replace(version=None, body=body) for body in (5, 7))
    resolved = with_versions([late, unknown, made, changed])
    assert [operation.version for operation in resolved] == [2, None, 2, 3]
    assert [(anomaly.kind, anomaly.version) for anomaly in find_anomalies(resolved)] == [
        ("stale", 2)
    ]
    another = with_versions([late._replace(register=2), made])
    assert [operation.version for operation in another] == [None, 2]


def test_find_lost_finds_a_member_gone_without_a_deletion() -> None:
    absent = read(2, 3, GONE)
    assert find_lost([write(0, 1, 5), absent]) == [absent]
    assert find_lost([absent, write(4, 5, GONE)]) == [absent]
    assert find_lost([absent, write(2.5, 9, GONE, status=0)]) == []


TIMES = st.integers(0, 12)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    start, length = draw(TIMES), draw(st.integers(0, 4))
    kind: Literal["read", "write"] = draw(st.sampled_from(["read", "write"]))
    register = draw(st.one_of(st.sampled_from([1, 2]), st.just("n")))
    version: int | None = draw(st.integers(0, 5))
    if kind == "read" and register == "n" and draw(st.booleans()):
        version = UNNAMED
    status = draw(st.sampled_from([200, 200, 503])) if kind == "write" else 200
    if status == 503 and register != "n":
        version = draw(st.sampled_from([None, GONE]))
    return Operation(start, start + length, "a", kind, register, version, status)


@settings(max_examples=60)
@given(st.lists(operations(), max_size=25), st.lists(st.tuples(TIMES, TIMES), max_size=2))
def test_find_anomalies_agrees_with_a_naive_checker(
    history: list[Operation], times: list[tuple[int, int]]
) -> None:
    windows = [Window(min(pair), max(pair)) for pair in times]
    found = [(anomaly.read, anomaly.kind) for anomaly in find_anomalies(history, windows, grace=2)]
    assert sorted(found) == sorted(slowly(history, windows, grace=2))


def slowly(
    history: list[Operation], windows: list[Window], grace: float
) -> list[tuple[Operation, Literal["stale", "backward"]]]:
    """Compare every operation with every other one."""
    resolved = [  # certain operations, with their versions
        (operation, operation.version or 0)
        for operation in history
        if operation.version not in (None, UNNAMED) and operation.is_certain
    ]

    def newest(read: Operation, kinds: tuple[str, ...]) -> int:
        return max(
            [
                version
                for operation, version in resolved
                if operation.register == read.register
                and operation.kind in kinds
                and known_since(operation, windows, grace) < read.start
            ],
            default=-1,
        )

    # The version of a read without one depends on the operations that ended before it began.
    for operation in sorted(history, key=lambda operation: operation.start):
        if operation.version == UNNAMED:
            certain = max(newest(operation, ("read", "write")), 0)
            begun = [
                other.version
                for other in history
                if other.register == operation.register
                and other.kind == "write"
                and other.version is not None
                and other.start <= operation.end
            ]
            possible = [v for v in range(max([0, *begun]) + 1) if v % 2 == 0]
            first = certain + certain % 2
            resolved.append((operation, first if first in possible else possible[-1]))
    found: list[tuple[Operation, Literal["stale", "backward"]]] = []
    for operation, version in resolved:
        if operation.kind == "read":
            if version < newest(operation, ("write",)):
                found.append((operation, "stale"))
            elif version < newest(operation, ("read",)):
                found.append((operation, "backward"))
    return found


def linearizable(count: int, seed: int) -> list[Operation]:
    """A history of registers, in which each operation takes effect between its start and end."""
    chance = random.Random(seed)
    versions = dict.fromkeys(range(8), 1)
    history = []
    for moment in range(count):
        register = chance.randrange(8)
        start = moment - chance.expovariate(0.1)
        end = moment + chance.expovariate(0.1)
        is_write = chance.random() < 0.2
        if is_write:
            versions[register] += 1
        make = write if is_write else read
        history.append(make(start, end, versions[register], register))
    return history


@given(st.integers())
def test_find_anomalies_accepts_any_register_without_a_cache(seed: int) -> None:
    assert find_anomalies(linearizable(300, seed)) == []


def test_find_anomalies_finds_one_anomaly_among_many_responses_quickly() -> None:
    long, short = linearizable(30_000, seed=1), linearizable(1500, seed=1)
    old = long[-1].end + 1000
    long.append(read(old, old + 1, 1, register=0))
    anomalies: list[Anomaly] = find_anomalies(long)
    assert [anomaly.read for anomaly in anomalies] == long[-1:]
    # A comparison of all pairs would take 400 times as long.
    assert costs_at_most(80, partial(find_anomalies, long), partial(find_anomalies, short))
