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
    return {contestant: _figures(rounds, reference) for contestant, rounds in results.items()}


def _figures(rounds: Sequence[Round], reference: Sequence[Round]) -> Figures:
    rates = [round_.rate for round_ in rounds]
    pairs = zip(reference, rounds, strict=True)
    ratios = [first.rate / other.rate for first, other in pairs if other.rate]
    return Figures(
        rate=median(rates),
        spread=(max(rates) - min(rates)) / (median(rates) or 1),
        ratio=median(ratios) if ratios else None,
        p50_ms=median(round_.load.p50_ms for round_ in rounds),
        p99_ms=median(round_.load.p99_ms for round_ in rounds),
        cpu_us=median(round_.cpu_us for round_ in rounds),
        busy=median(round_.busy for round_ in rounds),
        worker_mb=median(round_.worker_bytes for round_ in rounds) / _MB,
        reads=median(round_.reads_per_request for round_ in rounds),
    )


def table(results: Results) -> str:
    """Return a row for each contestant; the first one is the reference."""
    rows = [_row(contestant.title, shown) for contestant, shown in figures(results).items()]
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [_line(HEAD, widths), _rule(widths), *(_line(row, widths) for row in rows)]
    return "\n".join(lines)


def _row(title: str, shown: Figures) -> tuple[str, ...]:
    return (
        title,
        f"{shown.rate:,.0f}",
        f"{shown.spread:.0%}",
        f"{shown.ratio:.2f} x" if shown.ratio else "",
        f"{shown.p50_ms:.2f}",
        f"{shown.p99_ms:.2f}" if shown.p99_ms < 100 else f"{shown.p99_ms:.0f}",
        f"{shown.cpu_us:.0f}",
        f"{shown.busy:.2f}",
        f"{shown.worker_mb:.0f}",
        f"{shown.reads:.2f}",
    )


def _line(words: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = [f"{word:{'<' if i == 0 else '>'}{widths[i]}}" for i, word in enumerate(words)]
    return f"| {' | '.join([name, *numbers])} |"


def _rule(widths: Sequence[int]) -> str:
    name, *numbers = widths
    return f"|{'-' * (name + 2)}|{'|'.join('-' * (width + 1) + ':' for width in numbers)}|"


def remarks(scenario: Scenario, results: Results) -> list[str]:
    """Return remarks: how many responses were compared, and every anomaly."""
    every = [round_ for rounds in results.values() for round_ in rounds]
    compared = sum(round_.sample.compared for round_ in every)
    foreign = [round_.foreign for round_ in every]
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
    stale = sum(round_.sample.stale for round_ in rounds)
    wrong = [line for round_ in rounds for line in round_.sample.wrong]
    refused = sum(round_.load.refused for round_ in rounds)
    broken = sum(round_.load.broken for round_ in rounds)
    reads = median(round_.reads_per_request for round_ in rounds)
    if stale:
        lines.append(
            f"{stale} STALE responses of {sum(round_.sample.compared for round_ in rounds):,}"
        )
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
    samples = [round_.sample for rounds in results.values() for round_ in rounds]
    return not any(sample.wrong for sample in samples)
