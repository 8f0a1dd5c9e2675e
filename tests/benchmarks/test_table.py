"""From rounds to a table: ratios within a round, their medians, and warnings."""

from dataclasses import replace

from benchmarks.load.contestants import Contestant
from benchmarks.load.rounds import Round
from benchmarks.load.sampling import Sample
from benchmarks.load.scenarios import BY_NAME
from benchmarks.load.table import is_sound, remarks, table
from benchmarks.load.wrk import Load

OURS, PEER = Contestant("ours", "ours", "tornado", "motor"), Contestant("flask", "Flask")


def a_round(requests: int, reads: int = 0, sample: Sample | None = None) -> Round:
    """Return a round of two seconds in which one core was busy."""
    load = Load(requests, 2, p50_ms=1, p99_ms=9, refused=0, broken=0)
    return Round(load, sample or Sample(), 2, worker_bytes=50_000_000, reads=reads, foreign=0.25)


def test_ratio_is_that_of_the_same_round() -> None:
    # The machine was slow in the second round, for both: the ratio of the medians would be 4.
    ours = [a_round(8000), a_round(2000), a_round(8000)]
    peer = [a_round(2000), a_round(500), a_round(500)]
    row = table({OURS: ours, PEER: peer}).splitlines()[3]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        *("Flask", "250", "300%", "4.00 x", "1.00", "9.00", "4000", "1.00", "50", "0.00")
    ]


def test_table_warns_of_unusual_rounds() -> None:
    bad = a_round(1000, reads=500, sample=Sample(compared=10, stale=3, wrong=["this", "that"]))
    bad = replace(bad, load=replace(bad.load, refused=7))
    results = {OURS: [a_round(1000)], PEER: [bad]}
    text = "\n".join(remarks(BY_NAME["hit"], results))
    for words in ("10 responses compared", "3 STALE", "2 WRONG", "this", "7 responses", "NOT WARM"):
        assert words in text
    assert "NOT COLD" in "\n".join(remarks(BY_NAME["miss"], {PEER: [bad]}))
    assert not is_sound(results)
    assert is_sound({OURS: [a_round(1000)]})
    assert len(remarks(BY_NAME["hit"], {OURS: [a_round(1000)]})) == 1
