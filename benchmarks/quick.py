"""Measures the service beside FastAPI in a minute; prints a table and draws a chart."""

import logging
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.load.bed import Bed, Cores, make_bed, share_cores
from benchmarks.load.chart import draw
from benchmarks.load.contestants import Running, forms_of_ours, peers, running
from benchmarks.load.rounds import Round, Track
from benchmarks.load.scenarios import BY_NAME, Cell, Scenario, members_for

CHART = Path(__file__).parent.parent / "docs" / "performance.svg"
_PEER = "fastapi"
_SCENARIOS = (
    replace(BY_NAME["hit"], title="cached GET"),
    replace(BY_NAME["miss"], title="GET that misses", members=20_000),
    replace(BY_NAME["list"], title="list of 50", members=20_000),
    replace(BY_NAME["put"], title="PUT"),
)
_ROUNDS = 2

# Of each scenario, the rounds of the service and those of the peer.
Results = Mapping[Scenario, tuple[Sequence[Round], Sequence[Round]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and draw the chart."""
    parser = ArgumentParser(prog="scripts/bench quick", description=__doc__)
    parser.add_argument("--chart", type=Path, default=CHART, help="the SVG file (%(default)s)")
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING)
    cores = share_cores(1)
    os.sched_setaffinity(0, cores.load)
    with (
        suppress(KeyboardInterrupt),
        make_bed(members_for([Cell(scenario) for scenario in _SCENARIOS])) as bed,
    ):
        results = _measure(bed, cores)
        print(table(results))
        options.chart.write_text(draw(_ratios(results)))
        print(f"\nThe chart is in {options.chart}.")
        return 0
    return 130


def _measure(bed: Bed, cores: Cores) -> Results:
    contestants = [forms_of_ours()[0], next(peer for peer in peers() if peer.name == _PEER)]
    with ExitStack() as stack:
        both: list[Running] = []
        for contestant in contestants:
            bed.make_database(contestant.name, has_words=not contestant.is_ours)
            both.append(stack.enter_context(running(contestant, bed, cores, 1)))
        track = Track(bed, cores, both)
        results = {}
        for scenario in _SCENARIOS:
            rounds: dict[str, list[Round]] = {service.contestant.name: [] for service in both}
            for i in range(_ROUNDS):
                for service in both if i % 2 else reversed(both):
                    rounds[service.contestant.name].append(track.run(Cell(scenario), service, 1))
                    print(".", end="", file=sys.stderr, flush=True)
            ours, theirs = rounds.values()
            results[scenario] = ours, theirs
        print(file=sys.stderr)
        return results


def table(results: Results) -> str:
    """Return the table in Markdown."""
    lines = [
        "| 32 connections, one core | tornado_members | FastAPI | ratio | of processor time |",
        "|---|--:|--:|--:|--:|",
    ]
    for scenario, (ours, theirs) in results.items():
        rates = [f"{median(round_.rate for round_ in rounds):,.0f}/s" for rounds in (ours, theirs)]
        by_cpu = median(b.cpu_us / a.cpu_us for a, b in zip(ours, theirs, strict=True))
        ratio = _ratio(ours, theirs)
        lines.append(f"| {scenario.title} | {' | '.join(rates)} | {ratio:.1f} x | {by_cpu:.1f} x |")
    return "\n".join(lines)


def _ratios(results: Results) -> Mapping[str, float]:
    return {scenario.title: _ratio(*rounds) for scenario, rounds in results.items()}


def _ratio(ours: Sequence[Round], theirs: Sequence[Round]) -> float:
    """Return the median of the ratios of each round, in which one ran after the other."""
    return median(a.rate / max(b.rate, 1) for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    sys.exit(main())
