"""A short run of what `scripts/fuzz-http1` does for as long as one likes."""

from tests.http1.differential import compare


def test_both_servers_make_the_same_of_the_same_bytes() -> None:
    comparison, unexplained = compare(seed=7, go_on=lambda cases: cases < 60)
    assert unexplained == []
    assert comparison.cases == 60
