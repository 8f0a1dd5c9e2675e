"""Run services under load and faults, and check every response for stale or wrong data."""

import asyncio
import logging
import random
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.faults import (
    HARMLESS,
    NEED_PROXY,
    OF_REPLICA_SET,
    PARTITIONS,
    Faults,
    Injected,
)
from tests.support.history_report import check_record
from tests.support.hot_members import ATTRIBUTES, Record
from tests.support.replica_set import ReplicaSet
from tests.support.storm import Storm
from tornado_members.embedded.private_servers import PrivateServers

KINDS = (*HARMLESS, "service-kill", "process-stop", "replacement", "stepdown", *OF_REPLICA_SET)
EXAMPLES = 8


def main(argv: Sequence[str] | None = None) -> int:
    """Run a soak. Returns 1 if a response was stale or wrong."""
    arguments = _parser().parse_args(argv)
    kinds = _kinds(arguments.faults, arguments.nodes, arguments.replica_set)
    if kinds is None:
        print(
            f"--faults takes all, none, or some of {','.join(KINDS)}; {','.join(OF_REPLICA_SET)} "
            "need --replica-set, stepdown excludes it",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # connections break on purpose
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="tornado-members-soak-") as name,
    ):
        return asyncio.run(_run(arguments, kinds, Path(name)))
    return 130


async def _run(arguments: Namespace, kinds: list[str], folder: Path) -> int:
    """Start MongoDB, then run the soak."""
    async with AsyncExitStack() as stack:
        if arguments.replica_set:
            replica_set = await stack.enter_async_context(ReplicaSet(folder))
            return await _soak(arguments, kinds, folder, replica_set.uri, replica_set)
        servers = stack.enter_context(PrivateServers(folder, memcached=False, die_with_parent=True))
        return await _soak(arguments, kinds, folder, servers.mongodb_uri, None)


async def _soak(
    arguments: Namespace,
    kinds: list[str],
    folder: Path,
    mongodb_uri: str,
    replica_set: ReplicaSet | None,
) -> int:
    wanted = ", ".join(kinds) or "none"
    print(
        f"seed {arguments.seed}; {'naive' if arguments.naive else 'lease'} cache; faults: {wanted}"
    )
    cluster = Cluster(
        folder,
        mongodb_uri,
        processes=arguments.processes,
        nodes=arguments.nodes,
        naive=arguments.naive,
        proxied=arguments.nodes if {*kinds} & {*NEED_PROXY} else 0,
        members={"attributes": ATTRIBUTES} if arguments.attributes else None,
        seed=arguments.seed,
    )
    async with cluster:
        storm = Storm(
            cluster,
            readers=arguments.readers,
            writers=arguments.writers,
            pause=arguments.write_pause,
            steady=arguments.members,
            with_attributes=arguments.attributes,
            seed=arguments.seed,
        )
        faults = Faults(
            cluster,
            seed=arguments.seed,
            report=lambda line: print(line, flush=True),
            meanwhile=storm.change_resting,
            without_writes=storm.without_writes,
            replica_set=replica_set,
        )
        await asyncio.gather(
            storm.run(arguments.seconds),
            faults.run(kinds, arguments.seconds, pause=arguments.fault_pause),
        )
    return report(storm.record, faults.injected, arguments.grace)


def report(record: Record, injected: Sequence[Injected], grace: float) -> int:
    """Print the figures and the wrong responses of a record. Returns 1 if there were any."""
    reads, writes, seconds = record.count("read"), record.count("write"), record.seconds
    by_kind = Counter(fault.kind for fault in injected)
    print(f"operations: {reads + writes} in {seconds:.1f} s")
    print(f"  {reads / seconds:.0f} reads/s, {writes / seconds:.0f} writes/s")
    print(f"  in batches: {record.batched}, in lists: {record.listed}")
    print(f"  hit ratio: {_hit_ratio(record)}")
    print(f"  writes of unknown outcome: {record.unknown}")
    print(f"  statuses: {dict(sorted(record.statuses.items()))} (0: no response)")
    print(f"  the load itself took {record.cpu_seconds / seconds:.0%} of a core")
    print(f"faults: {', '.join(f'{n} {kind}' for kind, n in sorted(by_kind.items())) or 'none'}")
    report = check_record(record, injected, grace)
    print(f"stale reads: {report.stale}, backward reads: {report.backward}")
    if {*by_kind} & {*PARTITIONS}:
        print(f"  (reads during a {' or '.join(PARTITIONS)} may be stale for {grace} s)")
    if report.anomalies:
        print(f"  the most stale one by {max(anomaly.age for anomaly in report.anomalies):.3f} s")
    print(f"other wrong responses: {len(report.others)}")
    for line in report.lines[:EXAMPLES]:
        print(f"  {line}")
    return 1 if report.lines else 0


def _hit_ratio(record: Record) -> str:
    if not record.reads_with_status:
        return "unknown (no Cache-Status in the responses)"
    return f"{record.hits / record.reads_with_status:.1%}"


def _kinds(text: str, nodes: int, replica_set: bool) -> list[str] | None:
    impossible = {"stepdown"} if replica_set else {*OF_REPLICA_SET}
    if not nodes:
        impossible |= {*HARMLESS}
    possible = [kind for kind in KINDS if kind not in impossible]
    if text in ("all", "none"):
        return possible if text == "all" else []
    kinds = text.split(",")
    return kinds if {*kinds} <= {*possible} else None


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="scripts/soak", description=__doc__)
    add = parser.add_argument
    add(
        "--seconds",
        type=float,
        default=60,
        help="duration of the load; the start and the report take longer (60)",
    )
    add("--processes", type=int, default=3, help="services (3)")
    add("--nodes", type=int, default=2, help="Memcached nodes (2); 0 is a control without a cache")
    add("--readers", type=int, default=4, help="readers per service (4)")
    add("--writers", type=int, default=1, help="writers per service (1)")
    add("--members", type=int, default=2, help="members that keep their name (2)")
    add(
        "--write-pause",
        type=float,
        default=0.01,
        help="average seconds between two writes of a service's writer (0.01); with 0.5, most "
        "reads are hits",
    )
    add("--attributes", action="store_true", help="declare attributes, and write them")
    add("--replica-set", action="store_true", help="three MongoDB nodes, whose primary is lost")
    add(
        "--fault-pause",
        type=float,
        default=0.7,
        help="average seconds between two faults (0.7)",
    )
    add("--faults", default="all", help=f"all, none, or some of {','.join(KINDS)}")
    add("--naive", action="store_true", help="use plain cache-aside, which returns stale members")
    add(
        "--grace",
        type=float,
        default=1,
        help="seconds of stale reads that a partition allows (1)",
    )
    add("--seed", type=int, default=random.randrange(10**6), help="seed of all random choices")
    return parser


if __name__ == "__main__":
    sys.exit(main())
