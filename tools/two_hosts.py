"""Run services on two hosts, block, delay and lose packets between them, and check every response.

The hosts are network namespaces of this machine (tests/support/router.py), which needs root. Each
host has a service and a Memcached, and MongoDB has a node on both and on a third host.

Without --strict, a service that does not reach a node commits writes whose members others return
from there (docs/decisions/partial-partitions.md): then some reads are old.
"""

import asyncio
import logging
import math
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Final

from tests.support import router
from tests.support.faults import Injected
from tests.support.history_report import check_record
from tests.support.hosts import ADDRESSES, CLIENT, HOSTS, Deployment
from tests.support.network import ALL_LOST, Network, why_unavailable
from tests.support.storm import Storm
from tools.soak import report

HITS_WITHIN = 30.0  # seconds after each fault, for every member through every service
SKIPPED = 77  # the exit status if the machine has no network namespaces


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault of the network, and where the primary is when it begins."""

    pairs: tuple[tuple[str, str], ...]
    lost: float = ALL_LOST
    delay: float = 0.0  # seconds, each way
    primary: str = "c"


_ALL: Final = tuple(combinations(HOSTS, 2))
FAULTS: Final = {
    "slow": Disturbance(_ALL, lost=0.0, delay=0.02),
    "lossy": Disturbance(_ALL, lost=0.05),
    "slow-and-lossy": Disturbance(_ALL, lost=0.02, delay=0.01),
    "third-host-cut-off": Disturbance((("a", "c"), ("b", "c"))),
    "sites-cut-apart": Disturbance((("a", "b"),)),
    "site-without-primary-cut-off": Disturbance((("a", "b"), ("a", "c")), primary="b"),
    "site-with-primary-cut-off": Disturbance((("a", "b"), ("a", "c")), primary="a"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all faults. Returns 1 if a response was stale or wrong."""
    arguments = _parser().parse_args(argv)
    if reason := why_unavailable():
        print(reason, file=sys.stderr)
        return SKIPPED
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it cleans up
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # connections break on purpose
    with (
        suppress(KeyboardInterrupt),
        tempfile.TemporaryDirectory(prefix="tornado-members-hosts-") as name,
        Network(ADDRESSES) as network,
    ):
        router.enter(network.namespaces[CLIENT])  # before there are threads
        return asyncio.run(_run(arguments, Path(name), network))
    return 130


async def _run(arguments: Namespace, folder: Path, network: Network) -> int:
    cache = {"require_for_writes": arguments.strict}
    injected: list[Injected] = []
    async with Deployment(folder, network, cache) as deployment:
        storm = Storm(deployment, readers=arguments.readers)
        await storm.make_members()
        load = asyncio.create_task(storm.run(3600))
        cold: list[str] = []
        try:
            await storm.find_cold(HITS_WITHIN)
            for _ in range(arguments.rounds):
                for kind in arguments.faults.split(","):
                    injected.append(await _disturb(kind, arguments.seconds, network, deployment))
                    cold += await _heal(kind, storm)
        finally:
            storm.stop()
            await load
    anomalies = check_record(storm.record, [], grace=0).anomalies
    for fault, following in zip_longest(injected, injected[1:]):
        end = following.start if following else math.inf
        ages = [anomaly.age for anomaly in anomalies if fault.start <= anomaly.read.start < end]
        print(f"{fault.kind}: {len(ages)} old reads, the oldest {max(ages, default=0.0):.3f} s")
    for line in cold:
        print(f"no hit within {HITS_WITHIN} s: {line}")
    return report(storm.record, injected, grace=0) or bool(cold)


async def _disturb(kind: str, seconds: float, network: Network, deployment: Deployment) -> Injected:
    disturbance = FAULTS[kind]
    await deployment.make_primary(disturbance.primary)
    await asyncio.sleep(1)
    start = time.monotonic()
    network.disturb(disturbance.pairs, lost=disturbance.lost, delay=disturbance.delay)
    try:
        await asyncio.sleep(seconds)
    finally:
        network.disturb([])
    return Injected(kind, "network", start, time.monotonic())


async def _heal(kind: str, storm: Storm) -> list[str]:
    """Wait until every member hits through both services; return those that do not."""
    began = time.monotonic()
    cold = await storm.find_cold(HITS_WITHIN)
    print(f"{kind}: every member is a hit {time.monotonic() - began:.1f} s later", flush=True)
    return [f"after {kind}: {name}" for name in cold]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m tools.two_hosts", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=6, help="duration of each fault (6)")
    add("--rounds", type=int, default=1, help="how often each fault is injected (1)")
    add("--readers", type=int, default=2, help="readers per service (2)")
    add("--faults", default=",".join(FAULTS), help=f"all, by default: {', '.join(FAULTS)}")
    add("--strict", action="store_true", help="with cache.require_for_writes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
