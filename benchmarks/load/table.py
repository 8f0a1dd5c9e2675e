"""The table of a scenario in Markdown, from its rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians of a contestant's rounds."""

    rate: float  # requests per second
    spread: float  # between the rounds, as a share of the rate
    ratio: float | None  # of the reference's rate, as the median of the ratios of each round
    p50_ms: float
    p99_ms: float
    cpu_us: float
    busy: float
    worker_mb: float
    reads: float


def figures(results: Results) -> dict[Contestant, Figures]:
    """Return the figures of each contestant. The first one is the reference.

    The ratio is the median of the ratios of each round, in which both ran one after the other.
    """
    reference = next(iter(results.values()))
    return {one: _figures(rounds, reference) for one, rounds in results.items()}


def _figures(rounds: Sequence[Round], reference: Sequence[Round]) -> Figures:
    rates = [one.rate for one in rounds]
    pairs = zip(reference, rounds, strict=True)
    ratios = [ours.rate / its.rate for ours, its in pairs if its.rate]
    return Figures(
        rate=median(rates),
        spread=(max(rates) - min(rates)) / (median(rates) or 1),
        ratio=median(ratios) if ratios else None,
        p50_ms=median(one.load.p50_ms for one in rounds),
        p99_ms=median(one.load.p99_ms for one in rounds),
        cpu_us=median(one.cpu_us for one in rounds),
        busy=median(one.busy for one in rounds),
        worker_mb=median(one.worker_bytes for one in rounds) / _MB,
        reads=median(one.reads_per_request for one in rounds),
    )


def table(results: Results) -> str:
    """Return a row for each contestant; the first one is the reference."""
    rows = [_row(contestant.title, one) for contestant, one in figures(results).items()]
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [_line(HEAD, widths), _rule(widths), *(_line(row, widths) for row in rows)]
    return "\n".join(lines)


def _row(title: str, one: Figures) -> tuple[str, ...]:
    return (
        title,
        f"{one.rate:,.0f}",
        f"{one.spread:.0%}",
        f"{one.ratio:.2f} x" if one.ratio else "",
        f"{one.p50_ms:.2f}",
        f"{one.p99_ms:.2f}" if one.p99_ms < 100 else f"{one.p99_ms:.0f}",
        f"{one.cpu_us:.0f}",
        f"{one.busy:.2f}",
        f"{one.worker_mb:.0f}",
        f"{one.reads:.2f}",
    )


def _line(words: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = [f"{word:{'<' if i == 0 else '>'}{widths[i]}}" for i, word in enumerate(words)]
    return f"| {' | '.join([name, *numbers])} |"


def _rule(widths: Sequence[int]) -> str:
    name, *numbers = widths
    return f"|{'-' * (name + 2)}|{'|'.join('-' * (width + 1) + ':' for width in numbers)}|"


def remarks(scenario: Scenario, results: Results) -> list[str]:
    """Return remarks: how many responses were compared, and every anomaly."""
    every = [one for rounds in results.values() for one in rounds]
    compared = sum(one.sample.compared for one in every)
    foreign = [one.foreign for one in every]
    lines = [
        f"{compared:,} responses compared with MongoDB; other programs used {median(foreign):.0%} "
        f"of the server's core (in one round {max(foreign):.0%})."
    ]
    for contestant, rounds in results.items():
        lines += [
            f"{contestant.title}: {line}" for line in _anomalies(scenario, contestant, rounds)
        ]
    return lines


def _anomalies(scenario: Scenario, contestant: Contestant, rounds: Sequence[Round]) -> list[str]:
    lines = []
    stale = sum(one.sample.stale for one in rounds)
    wrong = [line for one in rounds for line in one.sample.wrong]
    refused = sum(one.load.refused for one in rounds)
    broken = sum(one.load.broken for one in rounds)
    reads = median(one.reads_per_request for one in rounds)
    if stale:
        lines.append(f"{stale} STALE responses of {sum(one.sample.compared for one in rounds):,}")
    if wrong:
        lines.append(f"{len(wrong)} WRONG responses, such as: {wrong[0]}")
    if refused or broken:
        lines.append(f"{refused} responses of 400 and above, {broken} broken connections")
    if contestant.has_cache and scenario.reads == 0 and reads > _FEW_READS:
        lines.append(f"NOT WARM: {reads:.2f} reads of MongoDB per request")
    if scenario.reads == 1 and reads < _MOST_READS:
        lines.append(f"NOT COLD: {reads:.2f} reads of MongoDB per request")
    return lines


def is_sound(results: Results) -> bool:
    """True if no response contained data that MongoDB never had."""
    samples = [one.sample for rounds in results.values() for one in rounds]
    return not any(sample.wrong for sample in samples)
