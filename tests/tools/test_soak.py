"""The report of a soak, on records made by hand. test_promise.py runs real soaks."""

import pytest

from tests.support.faults import Injected
from tests.support.histories import GONE, Operation
from tests.support.hot_members import Record
from tests.support.http_client import Reply
from tools import soak

WRITTEN = Operation(10.0, 10.1, "service-1", "write", 7, 3, 200, body=5)
FRESH = Operation(10.2, 10.3, "service-2", "read", 7, 3, 200, body=5)
OLD = Operation(10.6, 10.7, "service-2", "read", 7, 2, 200, body=4)


def test_report_accepts_a_correct_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.report(Record([WRITTEN, FRESH], seconds=1), [], grace=1) == 0
    assert "stale reads: 0, backward reads: 0" in capsys.readouterr().out


def test_report_describes_a_stale_read(capsys: pytest.CaptureFixture[str]) -> None:
    kill = Injected("node-kill", "node-1", 10.0, 11.0)
    assert soak.report(Record([WRITTEN, FRESH, OLD], seconds=1), [kill], grace=1) == 1
    shown = capsys.readouterr().out
    assert "stale reads: 1, backward reads: 0" in shown
    assert (
        "stale: service-2 at 0.6000..0.7000 s returned version 2 of member 7, but version 3 was "
        "known for 500.0 ms, from a write through service-1 at 0.0000..0.1000 s; faults: node-kill"
    ) in shown


def test_report_tolerates_stale_reads_within_a_partition_s_grace() -> None:
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
        Record(wrong_responses=["'Ada' led to Bob"], seconds=1),
    ],
    ids=["two bodies for a version", "gone", "a 5xx for nothing", "somebody else"],
)
def test_report_rejects_other_wrong_responses(record: Record) -> None:
    assert soak.report(record, [], grace=1) == 1


def test_report_accepts_a_5xx_during_a_stepdown() -> None:
    reason = [Injected("stepdown", "mongodb", 8.0, 9.0)]
    assert soak.report(Record(failures=[(10.0, "service-1", 503)], seconds=1), reason, 1) == 0


def test_hit_ratio_counts_each_member_of_a_batch() -> None:
    record = Record()
    for status, members in [
        (b"memcached; hit", 1),
        (b"memcached; hit", 5),
        (b"memcached; fwd=partial; detail=2/4", 4),
        (b"memcached; fwd=miss; stored", 2),
    ]:
        record.note_cache_status(Reply(0, headers={b"cache-status": status}), members)
    assert (record.hits, record.reads_with_status) == (8, 12)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--faults", "earthquake"],
        ["--faults", "primary-kill"],
        ["--faults", "stepdown", "--replica-set"],
        ["--faults", "node-kill", "--nodes", "0"],
    ],
)
def test_main_rejects_faults_that_cannot_be_injected(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert soak.main(arguments) == 2
    assert "node-kill" in capsys.readouterr().err
