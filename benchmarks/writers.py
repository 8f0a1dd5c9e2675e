"""The time of many PATCHes of one member at once, with and without a history of changes."""

import asyncio
import json
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from tornado.httpclient import AsyncHTTPClient

from benchmarks.load.bed import make_bed, share_cores
from benchmarks.load.contestants import forms_of_ours, running

_MEMBER = 7
_MERGE_PATCH = "application/merge-patch+json"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    options = _parser().parse_args(argv)
    cores = share_cores(1)
    os.sched_setaffinity(0, cores.load)
    plain = forms_of_ours()[0]
    audited = replace(plain, name="ours-audited", settings={"audit": {"enabled": True}})
    print("| writes | median | slowest |\n|---|--:|--:|")
    with make_bed(_MEMBER) as bed:
        headers = {"Authorization": f"Bearer {bed.token()}", "Content-Type": _MERGE_PATCH}
        for title, form in (("plain", plain), ("with audit.enabled", audited)):
            bed.make_database(form.name)
            with running(form, bed, cores, 1) as service:
                seconds = asyncio.run(_measure(service.port, headers, options))
            print(f"| {title} | {median(seconds):.3f} s | {max(seconds):.3f} s |", flush=True)


async def _measure(port: int, headers: dict[str, str], options: Namespace) -> list[float]:
    """Return the elapsed seconds of each round, after one to warm up."""
    client = AsyncHTTPClient(max_clients=options.writers)
    url, seconds = f"http://127.0.0.1:{port}/members/{_MEMBER}", []
    for i in range(options.rounds + 1):
        bodies = [json.dumps({"phone": f"+1-555-{i:05}{j:05}"}) for j in range(options.writers)]
        began = time.perf_counter()
        await asyncio.gather(
            *(client.fetch(url, method="PATCH", headers=headers, body=body) for body in bodies)
        )
        seconds.append(time.perf_counter() - began)
    client.close()
    return seconds[1:]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="scripts/bench writers", description=__doc__)
    parser.add_argument("--writers", type=int, default=50, help="PATCHes at once (50)")
    parser.add_argument("--rounds", type=int, default=10, help="number of rounds (10)")
    return parser


if __name__ == "__main__":
    main()
