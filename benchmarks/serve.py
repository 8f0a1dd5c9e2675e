"""Requests per second of the service and of services of other frameworks, on the same members."""

import logging
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict

from benchmarks.load import saved
from benchmarks.load.bed import Bed, make_bed, share_cores
from benchmarks.load.contestants import (
    BARE,
    PEERS,
    TRIVIAL,
    Contestant,
    NotStarted,
    Running,
    forms_of_ours,
    peers,
    running,
)
from benchmarks.load.contract import find_differences
from benchmarks.load.rounds import Round, Track
from benchmarks.load.scenarios import BY_NAME, FULL, PAGE_RUNS, Cell, members_for
from benchmarks.load.table import figures, is_sound, remarks, table

_PAGE_ROUNDS = 3  # of a second each


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns 1 if a response contained data that MongoDB never had."""
    options = make_parser().parse_args(argv)
    if options.save:
        options.rounds, options.seconds = _PAGE_ROUNDS, 1
    contestants = _chosen(options)
    cells = cells_of(options)
    for number in (signal.SIGTERM, signal.SIGINT):  # background jobs of a shell ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    logging.basicConfig(level=logging.WARNING)
    cores = share_cores(1)
    os.sched_setaffinity(0, cores.load)  # the databases and wrk inherit it
    with suppress(KeyboardInterrupt), make_bed(members_for(cells)) as bed:
        for contestant in (candidate for candidate in contestants if candidate.is_checked):
            is_peer = not contestant.is_ours
            has_filters = is_peer and options.same_indexes
            bed.make_database(contestant.name, has_words=is_peer, has_filters=has_filters)
        sound = True
        for processes in sorted({cell.processes for cell in cells}):
            its_cells = [cell for cell in cells if cell.processes == processes]
            sound &= _compete(bed, contestants, its_cells, options)
        return 0 if sound else 1
    return 130


def _compete(
    bed: Bed, contestants: Sequence[Contestant], cells: Sequence[Cell], options: Namespace
) -> bool:
    """Make all tables for one number of processes, with all contestants running."""
    processes = cells[0].processes
    cores = share_cores(processes)
    os.sched_setaffinity(0, cores.load)
    with ExitStack() as stack:
        running_all: list[Running] = []
        for contestant in contestants:
            try:
                service = stack.enter_context(running(contestant, bed, cores, processes))
            except NotStarted as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            differences = find_differences(service, bed) if contestant.is_checked else []
            for line in differences:
                print(f"{contestant.title} differs from the others: {line}", file=sys.stderr)
            if not differences:
                running_all.append(service)
        if options.check:
            print(f"{len(running_all)} of {len(contestants)} contestants respond as expected")
            return len(running_all) == len(contestants)
        if not cores.are_apart:
            print(f"\nWith {processes} processes, servers and load share cores {cores.servers}.")
        track = Track(bed, cores, running_all, options.patience)
        results = [_measure(cell, track, running_all, options) for cell in cells]
        return all(results)


def _measure(cell: Cell, track: Track, running_all: Sequence[Running], options: Namespace) -> bool:
    """Make one table: each contestant has one turn per round, in rotating order."""
    running_all = [
        service for service in running_all if _takes_part(service.contestant, cell, options)
    ]
    results: dict[Contestant, list[Round]] = {service.contestant: [] for service in running_all}
    try:
        for i in range(options.rounds):
            first = i % len(running_all)
            for service in [*running_all[first:], *running_all[:first]]:
                results[service.contestant].append(track.run(cell, service, options.seconds))
                print(".", end="", file=sys.stderr, flush=True)
    finally:  # an interrupted run prints its complete rounds
        print(file=sys.stderr)
        complete = min(map(len, results.values()))
        results = {contestant: rounds[:complete] for contestant, rounds in results.items()}
        if complete:
            print(f"\n### {cell.title}\n\n{table(results)}\n")
            print("\n".join(remarks(cell.scenario, results)), flush=True)
    sound = is_sound(results)
    if options.save and sound:
        found = {
            contestant.name: asdict(saved_figures)
            for contestant, saved_figures in figures(results).items()
        }
        saved.save("serve", {cell.name: found})
    return sound


def _takes_part(contestant: Contestant, cell: Cell, options: Namespace) -> bool:
    if not contestant.serves(cell.scenario):
        return False
    is_default = contestant == forms_of_ours()[0]
    return not options.save or is_default or contestant.name in PAGE_RUNS[cell]


def _chosen(options: Namespace) -> list[Contestant]:
    """Return the selected forms of the service and the selected peers, ours first."""
    ours, others = forms_of_ours(), peers()
    if options.save:
        names = {name for cell in cells_of(options) for name in PAGE_RUNS[cell]}
        return [
            ours[0],
            *(contestant for contestant in (*ours, *others) if contestant.name in names),
        ]
    if options.ours:
        ours = [form for form in ours if form.name.removeprefix("ours-") in options.ours]
    if options.peers is not None:
        others = [peer for peer in others if peer.name in options.peers]
    return [*ours, *others]


def cells_of(options: Namespace) -> list[Cell]:
    """Return the selected tables."""
    if options.save:
        return [cell for cell in PAGE_RUNS if cell.scenario.name in (options.only or BY_NAME)]
    scenarios = [BY_NAME[name] for name in options.only or ("hit", "miss")]
    if options.full:
        return [cell for cell in FULL if not options.only or cell.scenario in scenarios]
    return [
        Cell(scenario, connections, processes)
        for scenario in scenarios
        for connections in options.connections
        for processes in options.processes
    ]


def make_parser() -> ArgumentParser:
    """Return the parser of the options."""
    parser = ArgumentParser(prog="scripts/bench serve", description=__doc__)
    add = parser.add_argument
    forms = [form.name.removeprefix("ours-") for form in forms_of_ours()]
    add("--full", action="store_true", help="every scenario, 1 to 256 connections, two processes")
    add("--save", action="store_true", help="the runs of docs/performance.md, which it updates")
    add("--only", nargs="+", choices=BY_NAME, help="scenarios (hit miss; all with --full, --save)")
    add(
        "--peers",
        nargs="*",
        choices=[*PEERS, BARE, TRIVIAL],
        help="peers (all); without a name, none",
    )
    add(
        "--ours",
        nargs="+",
        choices=forms,
        help="forms of the service (all); the first is the reference",
    )
    add("--connections", nargs="+", type=int, default=[32], help="numbers of connections (32)")
    add("--processes", nargs="+", type=int, default=[1], help="processes of each server (1)")
    add("--seconds", type=int, default=2, help="duration of a turn, after one to warm up (2)")
    add(
        "--rounds",
        type=int,
        default=3,
        help="number of rounds; each contestant has one turn per round (3)",
    )
    add("--same-indexes", action="store_true", help="give peers the indexes of the filters, too")
    add("--patience", type=float, default=0, help="seconds to wait for an idle machine (0)")
    add("--check", action="store_true", help="only check the responses of all contestants")
    return parser


if __name__ == "__main__":
    sys.exit(main())
