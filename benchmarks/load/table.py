"""From rounds to a table, in Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.load.contestants import Contestant
from benchmarks.load.rounds import Round
from benchmarks.load.scenarios import Scenario

HEAD = (
    "",
    "req/s",
    "spread",
    "ours is",
    "p50 ms",
    "p99 ms",
    "CPU µs/req",
    "cores",
    "worker MB",
    "DB reads/req",
)
_MB = 1e6
_FEW_READS, _MOST_READS = 0.02, 0.9

Results = Mapping[Contestant, Sequence[Round]]


def table(results: Results) -> str:
    """A row a contestant, the medians of its rounds; the first of all is what others are held to.

    The ratio is the median of the ratios of each round, in which both ran one after the other.
    """
    reference = next(iter(results.values()))
    rows = [_row(one, rounds, reference) for one, rounds in results.items()]
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [_line(HEAD, widths), _rule(widths), *(_line(row, widths) for row in rows)]
    return "\n".join(lines)


def _row(
    contestant: Contestant, rounds: Sequence[Round], reference: Sequence[Round]
) -> tuple[str, ...]:
    rates = [one.rate for one in rounds]
    pairs = zip(reference, rounds, strict=True)
    ratios = [ours.rate / its.rate for ours, its in pairs if its.rate]
    p99 = median(one.load.p99_ms for one in rounds)
    return (
        contestant.title,
        f"{median(rates):,.0f}",
        f"{(max(rates) - min(rates)) / (median(rates) or 1):.0%}",
        f"{median(ratios):.2f} x" if ratios else "",
        f"{median(one.load.p50_ms for one in rounds):.2f}",
        f"{p99:.2f}" if p99 < 100 else f"{p99:.0f}",
        f"{median(one.cpu_us for one in rounds):.0f}",
        f"{median(one.busy for one in rounds):.2f}",
        f"{median(one.worker_bytes for one in rounds) / _MB:.0f}",
        f"{median(one.reads_a_request for one in rounds):.2f}",
    )


def _line(words: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = [f"{word:{'<' if i == 0 else '>'}{widths[i]}}" for i, word in enumerate(words)]
    return f"| {' | '.join([name, *numbers])} |"


def _rule(widths: Sequence[int]) -> str:
    name, *numbers = widths
    return f"|{'-' * (name + 2)}|{'|'.join('-' * (width + 1) + ':' for width in numbers)}|"


def remarks(scenario: Scenario, results: Results) -> list[str]:
    """Return remarks: how many answers were compared, and every anomaly."""
    every = [one for rounds in results.values() for one in rounds]
    compared = sum(one.sample.compared for one in every)
    foreign = [one.foreign for one in every]
    lines = [
        f"{compared:,} answers compared with MongoDB; other programs took {median(foreign):.0%} "
        f"of the server's core (in one round {max(foreign):.0%})."
    ]
    for contestant, rounds in results.items():
        lines += [f"{contestant.title}: {line}" for line in _faults(scenario, contestant, rounds)]
    return lines


def _faults(scenario: Scenario, contestant: Contestant, rounds: Sequence[Round]) -> list[str]:
    lines = []
    stale = sum(one.sample.stale for one in rounds)
    wrong = [line for one in rounds for line in one.sample.wrong]
    refused = sum(one.load.refused for one in rounds)
    broken = sum(one.load.broken for one in rounds)
    reads = median(one.reads_a_request for one in rounds)
    if stale:
        lines.append(f"{stale} STALE answers of {sum(one.sample.compared for one in rounds):,}")
    if wrong:
        lines.append(f"{len(wrong)} WRONG answers, such as: {wrong[0]}")
    if refused or broken:
        lines.append(f"{refused} answers of 400 and above, {broken} broken connections")
    if contestant.has_cache and scenario.reads == 0 and reads > _FEW_READS:
        lines.append(f"NOT WARM: {reads:.2f} reads of MongoDB a request")
    if scenario.reads == 1 and reads < _MOST_READS:
        lines.append(f"NOT COLD: {reads:.2f} reads of MongoDB a request")
    return lines


def is_sound(results: Results) -> bool:
    """True if every compared answer was right."""
    samples = [one.sample for rounds in results.values() for one in rounds]
    return not any(sample.wrong for sample in samples)
