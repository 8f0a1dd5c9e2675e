"""Processor time of the service on several versions of Python, measured in turns."""

import logging
import os
import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.load import page_tables, saved
from benchmarks.load.bed import Bed, Cores, make_bed, share_cores
from benchmarks.load.contestants import Contestant, Running, forms_of_ours, running
from benchmarks.load.rounds import Track
from benchmarks.load.scenarios import BY_NAME, Cell, members_for

_CELLS = tuple(Cell(BY_NAME[name]) for name in ("hit", "handler", "miss", "list", "put"))
_VERSION = "import sys; print(*sys.version_info[:2], sep='.')"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each interpreter and print a table."""
    options = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING)
    cores = share_cores(1)
    os.sched_setaffinity(0, cores.load)
    with suppress(KeyboardInterrupt), make_bed(members_for(_CELLS)) as bed:
        figures = _measure(
            bed, cores, [_contestant(python) for python in options.python], options.rounds
        )
        print(page_tables.pythons({"pythons": figures}))
        if options.save:
            saved.save("pythons", figures)
        return 0
    return 130


def _contestant(python: Path) -> Contestant:
    """Return the service on an interpreter, named after its version."""
    command = [str(python), "-c", _VERSION]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return replace(
        forms_of_ours()[0],
        name=f"ours-python-{version.replace('.', '-')}",
        title=version,
        python=str(python.absolute()),
    )


def _measure(
    bed: Bed, cores: Cores, contestants: Sequence[Contestant], rounds: int
) -> Mapping[str, Mapping[str, float]]:
    """Return the median processor time in microseconds, by scenario and version."""
    with ExitStack() as stack:
        started: list[Running] = []
        for contestant in contestants:
            bed.make_database(contestant.name, has_words=False)
            started.append(stack.enter_context(running(contestant, bed, cores, 1)))
        track = Track(bed, cores, started)
        figures = {}
        for cell in _CELLS:
            costs: dict[str, list[float]] = {service.contestant.title: [] for service in started}
            for i in range(rounds):
                first = i % len(started)
                for service in [*started[first:], *started[:first]]:
                    costs[service.contestant.title].append(track.run(cell, service, 2).cpu_us)
                    print(".", end="", file=sys.stderr, flush=True)
            figures[cell.scenario.name] = {title: median(each) for title, each in costs.items()}
        print(file=sys.stderr)
        return figures


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="scripts/bench pythons", description=__doc__)
    parser.add_argument(
        "python",
        nargs="+",
        type=Path,
        help="an interpreter with the dependencies of the service, such as the .venv/bin/python of"
        " a checkout made with PYTHON=python3.13 scripts/setup; the first is the reference",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (3)")
    parser.add_argument("--save", action="store_true", help="update docs/performance.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
