"""The cost of telemetry per request: counters, beside prometheus_client's, and the log line."""

import argparse
import asyncio
import logging
import os
import time
import timeit
from collections import Counter
from collections.abc import Callable

import prometheus_client

from tornado_members.auth.tokens import TokenCounts
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.telemetry.access_log import AccessLogRecord
from tornado_members.telemetry.access_log_writer import AccessLogWriter
from tornado_members.telemetry.logs import ACCESS_LOGGER, JsonFormatter, TextFormatter
from tornado_members.telemetry.metrics import Histogram
from tornado_members.telemetry.request_metrics import RequestMetrics


def nanoseconds(work: Callable[[], object], times: int = 50_000) -> float:
    """Return the best of several rounds, less the cost of an empty call."""
    clock = time.process_time  # excludes the time of other programs
    empty = min(timeit.repeat(lambda: None, timer=clock, number=times, repeat=5))
    return (min(timeit.repeat(work, timer=clock, number=times, repeat=7)) - empty) / times * 1e9


def measure() -> None:
    """Print the figures."""
    requests, tokens, cache = RequestMetrics(), TokenCounts(), CacheCounts()
    operation, bypasses = Histogram(), Counter[str]()
    route = "/members/{memberId}"

    def count_hit() -> None:
        requests.request_started()
        tokens.remembered += 1
        cache.hits += 1
        requests.observe(route, "GET", 200, 0.0012)
        requests.request_finished()

    def count_bypass() -> None:
        bypasses["tombstone"] += 1
        operation.observe(0.0012)

    print(f"all counters of a hit                {nanoseconds(count_hit):8.0f} ns")
    print(f"in addition, a read past the cache   {nanoseconds(count_bypass):8.0f} ns")
    registry = prometheus_client.CollectorRegistry()
    times = prometheus_client.Histogram("seconds", "times", ["route", "method"], registry=registry)
    responses = prometheus_client.Counter(
        "requests", "responses", ["route", "method", "status"], registry=registry
    )

    def count_with_client() -> None:
        times.labels(route, "GET").observe(0.0012)
        responses.labels(route, "GET", "200").inc()

    print(f"prometheus_client, the request alone {nanoseconds(count_with_client):8.0f} ns")
    record = AccessLogRecord(
        method="GET",
        route=route,
        path="/members/42",
        status=200,
        seconds=0.0012,
        request_id="7bfb6f0ab0c84b4b9a5e4a1f8f0d9d11",
        subject="somebody",
        cache="hit",
    )
    logging.logThreads = logging.logMultiprocessing = False  # as in configure_logging()
    log = logging.getLogger(ACCESS_LOGGER)
    log.propagate = False
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        output = logging.StreamHandler(nowhere)
        log.addHandler(output)
        log.setLevel(logging.WARNING)
        cost = nanoseconds(lambda: requests.record(record))
        print(f"without a line (log.level: warning)  {cost:8.0f} ns")
        log.setLevel(logging.INFO)
        for formatter in (JsonFormatter(), TextFormatter()):
            output.setFormatter(formatter)
            cost = nanoseconds(lambda: requests.record(record), 5000)
            print(f"a line by logging, {type(formatter).__name__:17} {cost:8.0f} ns")
        cost = asyncio.run(_written(AccessLogWriter(nowhere), record))
        print(f"a line of JSON, by the turn of the loop {cost:5.0f} ns")


async def _written(lines: AccessLogWriter, record: AccessLogRecord) -> float:
    return nanoseconds(lambda: lines.write(record, logging.INFO), 5000)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="scripts/bench visible", description=__doc__).parse_args()
    measure()
