"""Throughput and latency of a worker that receives twice the requests that it can serve."""

import argparse
import asyncio
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.load.bed import Bed, make_bed, share_cores
from benchmarks.load.contestants import Running, forms_of_ours, running
from benchmarks.load.open_loop import OpenLoop, Outcome
from benchmarks.load.usage import usage_of
from tornado_members.http1.event_loop import find_fast_loop

_MEMBERS = 100_000
_FIRST_UNCACHED = 101
_LIST_EVERY = 5  # requests; the others are uncached reads
_CACHED_RATE = 50  # requests per second


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns 1 if throughput, latency or resets miss their goals."""
    options = make_parser().parse_args(argv)
    contestant, cores = forms_of_ours()[0], share_cores(1)
    os.sched_setaffinity(0, cores.load)
    with make_bed(_MEMBERS) as bed:
        bed.make_database(contestant.name)
        with (
            running(contestant, bed, cores, 1) as service,
            asyncio.Runner(loop_factory=find_fast_loop()) as runner,
        ):
            return 0 if runner.run(_measure(service, bed, options)) else 1


@dataclass(frozen=True, slots=True)
class _Requests:
    """The requests of all clients."""

    token: str

    def get(self, path: str) -> bytes:
        """Return a GET request."""
        return (
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        )

    def expensive(self) -> Iterator[bytes]:
        """Yield lists, and reads of members that are not cached."""
        for number in itertools.count():
            if number % _LIST_EVERY == 0:
                # Callers of the same list would share a query.
                prefix = f"Ada%20Lovelace%20{number % 1000}"
                yield self.get(f"/members?limit=50&sort=name&name_prefix={prefix}")
            else:
                member_id = _FIRST_UNCACHED + number * 7919 % (_MEMBERS - _FIRST_UNCACHED)
                yield self.get(f"/members/{member_id}")

    def cached(self) -> Iterator[bytes]:
        """Yield reads of members that are cached."""
        return itertools.cycle([self.get(f"/members/{number}") for number in range(1, 51)])


async def _measure(service: Running, bed: Bed, options: argparse.Namespace) -> bool:
    requests = _Requests(bed.token())
    client = OpenLoop(service.port, requests.expensive())
    reader = OpenLoop(service.port, requests.cached())
    await reader.send_at(_CACHED_RATE, 2)  # fills the cache
    best = await client.send_closed(options.connections, options.seconds)
    capacity = best.successes / options.seconds
    _print("closed loop", best, options.seconds)
    before = usage_of(service).worker_bytes
    rate = capacity * options.factor
    outcome, cached = await asyncio.gather(
        client.send_at(rate, options.seconds), reader.send_at(_CACHED_RATE, options.seconds)
    )
    after = usage_of(service).worker_bytes
    _print(f"{options.factor:g} x, open loop", outcome, options.seconds)
    _print("cached, beside it", cached, options.seconds)
    for second in (1, 2, 3):
        later = await client.send_at(capacity / 2, 1)
        _print(f"second {second} after it", later, 1)
    print(f"worker: {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")
    client.close()
    reader.close()
    share = outcome.successes / options.seconds / capacity
    print(f"{share:.0%} of the best throughput")
    return share > 0.8 and _quantile(outcome.admitted, 0.99) < 1 and not outcome.resets


def _print(title: str, outcome: Outcome, seconds: float) -> None:
    print(
        f"{title:<20} {outcome.sent / seconds:7,.0f}/s sent {outcome.successes / seconds:7,.0f}/s"
        f" answered, p50 {_quantile(outcome.admitted, 0.5) * 1000:6.0f} ms"
        f" p99 {_quantile(outcome.admitted, 0.99) * 1000:6.0f} ms;"
        f" refused p99 {_quantile(outcome.refused, 0.99) * 1000:6.0f} ms;"
        f" {dict(outcome.statuses)}, {outcome.resets} resets, {outcome.timeouts} time-outs;"
        f" the client's own delay {outcome.own_delay * 1000:.0f} ms",
        flush=True,
    )


def _quantile(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(prog="scripts/bench overload", description=__doc__)
    add = parser.add_argument
    add("--factor", type=float, default=2, help="times the best throughput (2)")
    add("--seconds", type=int, default=10, help="duration of each phase (10)")
    add("--connections", type=int, default=32, help="of the closed loop that finds the best (32)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
