"""A short run of the comparison that `scripts/fuzz-http1` runs for longer."""

from tools.differential import compare


def test_both_servers_interpret_the_same_bytes_alike() -> None:
    comparison, unexplained = compare(seed=7, go_on=lambda cases: cases < 60)
    assert unexplained == []
    assert comparison.cases == 60
