"""The report of a soak, on records made by hand; the storms themselves are in test_promise.py."""

import pytest

from tests import soak
from tests.support.faults import Injected
from tests.support.histories import GONE, Answer
from tests.support.hot_members import Record

WRITTEN = Answer(10.0, 10.1, "service-1", "write", 7, 3, 200, body=5)
FRESH = Answer(10.2, 10.3, "service-2", "read", 7, 3, 200, body=5)
OLD = Answer(10.6, 10.7, "service-2", "read", 7, 2, 200, body=4)


def test_a_truthful_record_is_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.report(Record([WRITTEN, FRESH], seconds=1), [], grace=1) == 0
    assert "stale reads: 0, backward reads: 0" in capsys.readouterr().out


def test_a_lie_is_a_failure_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    kill = Injected("node-kill", "node-1", 10.0, 11.0)
    assert soak.report(Record([WRITTEN, FRESH, OLD], seconds=1), [kill], grace=1) == 1
    shown = capsys.readouterr().out
    assert "stale reads: 1, backward reads: 0" in shown
    assert (
        "stale: service-2 at 0.6000..0.7000 s gave version 2 of member 7, but version 3 was known "
        "for 500.0 ms, from a write through service-1 at 0.0000..0.1000 s; faults: node-kill"
    ) in shown


def test_a_partition_excuses_what_is_not_too_old() -> None:
    cut = [Injected("cut", "service-1 and node-1", 9.0, 10.5)]
    record = Record([WRITTEN, FRESH, OLD], seconds=1)
    assert soak.report(record, cut, grace=1) == 0
    assert soak.report(record, cut, grace=0.2) == 1


@pytest.mark.parametrize(
    "record",
    [
        Record([WRITTEN, FRESH._replace(body=6)], seconds=1),
        Record([WRITTEN, FRESH._replace(version=GONE, status=404)], seconds=1),
        Record(failures=[(10.0, "service-1", 503)], seconds=1),
        Record(misled=["'Ada' led to Bob"], seconds=1),
    ],
    ids=["two bodies for a version", "gone", "a 5xx for nothing", "somebody else"],
)
def test_other_wrong_answers_are_failures(record: Record) -> None:
    assert soak.report(record, [], grace=1) == 1


def test_a_5xx_for_a_reason_is_none() -> None:
    reason = [Injected("stepdown", "mongodb", 8.0, 9.0)]
    assert soak.report(Record(failures=[(10.0, "service-1", 503)], seconds=1), reason, 1) == 0


def test_a_fault_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--faults", "earthquake"]) == 2
    assert "node-kill" in capsys.readouterr().err
