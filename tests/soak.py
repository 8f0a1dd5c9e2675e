"""Load, faults, and every answer checked: does the cache lie?        scripts/soak"""

import asyncio
import logging
import random
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.faults import HARMLESS, NEED_PROXY, PARTITIONS, Faults, Injected
from tests.support.histories import Lie, find_contradictions, find_lies, find_lost
from tests.support.hot_members import Record
from tests.support.storm import Storm
from tornado_members.embedded.private_servers import PrivateServers

KINDS = (*HARMLESS, "service-kill", "process-stop", "stepdown")
EXAMPLES = 5
_AFTERMATH = 5.0  # seconds in which a fault may still cost an answer


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; 1 if anything untrue was answered."""
    arguments = _parser().parse_args(argv)
    kinds = _kinds(arguments.faults)
    if kinds is None:
        print(f"--faults takes all, none, or some of {','.join(KINDS)}", file=sys.stderr)
        return 2
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # connections break here on purpose
    with (
        tempfile.TemporaryDirectory(prefix="tornado-members-soak-") as name,
        PrivateServers(Path(name), memcached=False, die_with_parent=True) as servers,
    ):
        return asyncio.run(_soak(arguments, kinds, Path(name), servers.mongodb_uri))


async def _soak(arguments: Namespace, kinds: list[str], folder: Path, mongodb_uri: str) -> int:
    print(f"seed {arguments.seed}; protocol {arguments.protocol}; faults: {', '.join(kinds)}")
    cluster = Cluster(
        folder,
        mongodb_uri,
        processes=arguments.processes,
        nodes=arguments.nodes,
        protocol=arguments.protocol,
        proxied=(arguments.nodes + 1) // 2 if {*kinds} & {*NEED_PROXY} else 0,
        seed=arguments.seed,
    )
    async with cluster:
        storm = Storm(cluster, readers=arguments.readers, seed=arguments.seed)
        faults = Faults(cluster, seed=arguments.seed, tell=lambda line: print(line, flush=True))
        began = time.monotonic()
        await asyncio.gather(
            storm.blow(arguments.seconds), faults.run(kinds, arguments.seconds, pause=0.7)
        )
    return report(storm.record, faults, arguments.grace, began)


def report(record: Record, faults: Faults, grace: float, began: float) -> int:
    """Print what was done and what was wrong with it; 1 if anything was."""
    reads, writes, seconds = record.count("read"), record.count("write"), record.seconds
    by_kind = Counter(fault.kind for fault in faults.injected)
    print(f"operations: {reads + writes} in {seconds:.1f} s")
    print(f"  {reads / seconds:.0f} reads/s, {writes / seconds:.0f} writes/s")
    print(f"  hit ratio: {_hit_ratio(record)}")
    print(f"  this process used {record.cpu_seconds / seconds:.0%} of a core to ask and to note")
    print(f"  writes of unknown outcome: {record.unknown}")
    print(f"  statuses: {dict(sorted(record.statuses.items()))} (0: no answer)")
    print(f"faults: {', '.join(f'{n} {kind}' for kind, n in sorted(by_kind.items())) or 'none'}")
    lies = find_lies(record.answers, faults.partitions(), grace)
    stale = sum(lie.kind == "stale" for lie in lies)
    print(f"stale reads: {stale}, backward reads: {len(lies) - stale}")
    if faults.partitions():
        print(
            f"  (up to {grace} s are allowed to what was answered in a {' or '.join(PARTITIONS)})"
        )
    for lie in lies[:EXAMPLES]:
        print(f"  {describe(lie, faults.injected, began)}")
    if lies:
        print(f"  the oldest was {max(lie.age for lie in lies):.3f} s too old")
    other = other_faults(record, faults.injected)
    for line in other[:EXAMPLES]:
        print(f"  {line}")
    print(f"other wrong answers: {len(other)}")
    return 1 if lies or other else 0


def other_faults(record: Record, injected: Sequence[Injected]) -> list[str]:
    """What is wrong besides old answers."""
    torn = [
        f"{a.process} and {b.process} gave two bodies for member {a.register}, version {a.version}"
        for a, b in find_contradictions(record.answers)
    ]
    lost = [
        f"{answer.process}: member {answer.register} was gone, and nobody had deleted it"
        for answer in find_lost(record.answers)
    ]
    excuses = [fault for fault in injected if fault.kind not in HARMLESS]
    failed = [
        f"{process} answered {status}, with nothing wrong but the cache"
        for when, process, status in record.failures
        if not any(f.start - _AFTERMATH < when < f.end + _AFTERMATH for f in excuses)
    ]
    return [*record.misled, *torn, *lost, *failed]


def describe(lie: Lie, injected: Sequence[Injected], began: float) -> str:
    """Who was told what, and what should have been known."""
    read, against = lie.read, lie.against
    what = "write" if against.kind == "write" else "read"
    during = [
        fault.kind for fault in injected if fault.start <= read.end and against.start <= fault.end
    ]
    subject = f"member {read.register}" if isinstance(read.register, int) else repr(read.register)
    return (
        f"{lie.kind}: at {read.start - began:.3f}..{read.end - began:.3f} s {read.process} "
        f"gave version {lie.version} of {subject}; version {lie.known} was known for "
        f"{lie.age * 1000:.1f} ms, from a {what} through {against.process} at "
        f"{against.start - began:.3f}..{against.end - began:.3f} s"
        + (f" (faults: {', '.join(during)})" if during else "")
    )


def _hit_ratio(record: Record) -> str:
    if not record.reads_with_status:
        return "unknown (no Cache-Status in the answers)"
    return f"{record.hits / record.reads_with_status:.1%}"


def _kinds(text: str) -> list[str] | None:
    if text in ("all", "none"):
        return [*KINDS] if text == "all" else []
    kinds = text.split(",")
    return kinds if {*kinds} <= {*KINDS} else None


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="scripts/soak", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=60, help="how long (60)")
    add("--processes", type=int, default=3, help="services (3)")
    add("--nodes", type=int, default=2, help="Memcached nodes (2)")
    add("--readers", type=int, default=3, help="readers of each service (3)")
    add("--faults", default="all", help=f"all, none, or some of {','.join(KINDS)}")
    add("--protocol", choices=["leases", "naive"], default="leases", help="cache.protocol")
    add("--grace", type=float, default=2.5, help="seconds that a partition may make stale (2.5)")
    add("--seed", type=int, default=random.randrange(10**6), help="of what is random")  # noqa: S311
    return parser


if __name__ == "__main__":
    sys.exit(main())
