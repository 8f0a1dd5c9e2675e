"""Every metric of a process, collected on request from the counters of the packages.

Labels have few values: routes, not paths; settings, not members. docs/operations.md lists them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tornado_members.admin.process import LoopLag, process_metrics
from tornado_members.auth.keys import KeySource
from tornado_members.auth.tokens import TokenCounts
from tornado_members.feed.metrics import FeedMetrics
from tornado_members.http.load_shedding import LoadShedder
from tornado_members.invalidator import InvalidatorStatus
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.services import Services
from tornado_members.storage.list_preparation import ListPreparation
from tornado_members.storage.operations import OperationCounts
from tornado_members.telemetry.metrics import Family, Histogram, Labels
from tornado_members.telemetry.request_metrics import RequestMetrics


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of this process."""

    services: Services
    lag: LoopLag

    def request_seconds(self) -> float:
        """Return the duration of all requests, which changes with each answered request."""
        return sum(times.total for times in self.services.requests.durations.values())

    def collect(self) -> list[Family]:
        """Return every metric with its present value."""
        services, dependencies = self.services, self.services.dependencies
        directory = services.directory
        return [
            *_request_metrics(services.requests),
            *_load_metrics(services.load_shedder),
            *_cache_metrics(directory.cache_counts, directory.cache_states()),
            *_change_stream_metrics(dependencies.change_stream),
            *_feed_metrics(services.feed.metrics),
            *_token_metrics(services.tokens.counts, dependencies.keys),
            *_mongodb_metrics(dependencies.mongo.operations),
            _list_metric(dependencies.lists),
            *process_metrics(self.lag, dependencies.driver),
        ]


def _request_metrics(requests: RequestMetrics) -> Iterator[Family]:
    answered = Family(
        "members_http_requests",
        "counter",
        "Answered requests; route is the pattern of the path.",
        ("route", "method", "status"),
    )
    durations: dict[Labels, Histogram] = {}
    for (route, method, status), times in list(requests.durations.items()):
        answered.put(times.count, route, method, str(status))
        durations.setdefault((route, method), Histogram()).add(times)
    yield answered
    yield Family(
        "members_http_request_duration_seconds",
        "histogram",
        "Time from the end of a request's headers to the end of its handler.",
        ("route", "method"),
        values=dict(durations.items()),
    )
    yield Family("members_http_requests_in_flight", "gauge", "Requests in flight.").put(
        requests.in_flight
    )


def _load_metrics(shedder: LoadShedder) -> Iterator[Family]:
    yield Family(
        "members_http_requests_shed",
        "counter",
        "Requests refused because accepted ones wait too long.",
    ).put(shedder.refused)


def _cache_metrics(counts: CacheCounts, states: Mapping[str, str | None]) -> Iterator[Family]:
    yield Family(
        "members_cache_reads",
        "counter",
        "Reads of an entry: hit, miss, or bypass (read from MongoDB only).",
        ("result",),
    ).put_all({"hit": counts.hits, "miss": counts.misses, "bypass": counts.bypasses.total()})
    yield Family(
        "members_cache_bypasses",
        "counter",
        "Reads that bypassed the cache, by the reason in Cache-Status.",
        ("reason",),
    ).put_all(counts.bypasses)
    yield Family(
        "members_cache_fills",
        "counter",
        "Misses by outcome: stored; or not stored because another reader held the lease "
        "(leased), a write intervened (overtaken) or the node did not answer (node-unavailable).",
        ("result",),
    ).put_all({"stored": counts.fills, **counts.refused_fills})
    yield Family(
        "members_cache_writes_without_tombstone",
        "counter",
        "Writes without a tombstone, because the node was unavailable.",
    ).put(counts.unannounced_writes)
    yield Family(
        "members_cache_stale_nodes",
        "counter",
        "Nodes marked as stale, because they missed an invalidation.",
    ).put(counts.marked_stale)
    yield Family("members_cache_epochs_set", "counter", "Nodes emptied by a new epoch.").put(
        counts.epochs_set
    )
    yield Family(
        "members_cache_repeated_loads",
        "counter",
        "Loads that were repeated, because the primary may have been replaced by another one.",
    ).put(counts.doubtful_loads)
    yield Family(
        "members_cache_bypassed_nodes",
        "gauge",
        "Processes that bypass a node, by node and reason; a node that every process reads has "
        "no sample.",
        ("node", "reason"),
        values={(node, reason): 1 for node, reason in states.items() if reason},
    )
    yield Family("members_cache_nodes", "gauge", "Configured cache nodes.", merge="max").put(
        len(states)
    )


def _change_stream_metrics(status: InvalidatorStatus) -> Iterator[Family]:
    yield Family(
        "members_change_stream_followers",
        "gauge",
        "Processes that follow the change stream: 1 in the whole cluster.",
    ).put(int(status.is_leader))
    yield Family(
        "members_change_stream_events", "counter", "Events received from the change stream."
    ).put(status.events)
    yield Family(
        "members_change_stream_lag_seconds",
        "gauge",
        "Time from the last change, by MongoDB's clock, to its invalidation, by this host's.",
        merge="max",
    ).put(status.lag_seconds or 0.0)
    yield Family(
        "members_change_stream_stalled_seconds",
        "gauge",
        "Time since any process last advanced on the change stream.",
        merge="max",
    ).put(status.stalled_seconds)
    yield Family(
        "members_change_stream_reopenings", "counter", "Times the change stream was reopened."
    ).put(status.reopened)
    yield Family(
        "members_change_stream_histories_lost",
        "counter",
        "Times that the oplog no longer had the resume token, and the whole cache was flushed.",
    ).put(status.lost_histories)
    yield Family(
        "members_change_stream_failed_invalidations",
        "counter",
        "Invalidations that failed at the first attempt.",
    ).put(status.failed_invalidations)


def _feed_metrics(metrics: FeedMetrics) -> Iterator[Family]:
    yield Family("members_feed_subscribers", "gauge", "Clients that follow the change feed.").put(
        metrics.subscribers
    )
    yield Family("members_feed_events_sent", "counter", "Events sent to subscribers.").put(
        metrics.events_sent
    )
    yield Family(
        "members_feed_lag_seconds",
        "gauge",
        "Time from the last change, by MongoDB's clock, until all subscribers were sent it, by "
        "this host's; 0 without subscribers.",
        merge="max",
    ).put(metrics.lag_seconds if metrics.subscribers else 0.0)
    yield Family(
        "members_feed_disconnections",
        "counter",
        "Streams that ended: by the client, expired, lagging, slow, "
        "displaced, drain, lost or failed.",
        ("reason",),
    ).put_all(metrics.disconnections)
    yield Family(
        "members_feed_catch_ups",
        "counter",
        "Change streams that were opened for subscribers that resume far behind.",
    ).put(metrics.catch_ups)
    yield Family(
        "members_feed_reopenings", "counter", "Times that the feed's change stream was reopened."
    ).put(metrics.reopened)


def _token_metrics(counts: TokenCounts, keys: Mapping[str, KeySource]) -> Iterator[Family]:
    yield Family(
        "members_token_checks",
        "counter",
        "Token checks by outcome: cached, verified, refused, or unknown (no keys).",
        ("outcome",),
    ).put_all(
        {
            "cached": counts.remembered,
            "verified": counts.verified,
            "refused": counts.refused.total(),
            "unknown": counts.keys_unavailable,
        }
    )
    yield Family(
        "members_token_refusals", "counter", "Refused tokens, by reason.", ("reason",)
    ).put_all(counts.refused)
    states = {issuer: source.state() for issuer, source in keys.items()}
    yield Family(
        "members_issuer_keys",
        "gauge",
        "Usable keys of an issuer; 0 if none are available.",
        ("issuer",),
        "max",
    ).put_all({issuer: state.count for issuer, state in states.items()})
    yield Family(
        "members_issuer_keys_age_seconds",
        "gauge",
        "Age of an issuer's keys: time since they were last confirmed.",
        ("issuer",),
        "max",
    ).put_all({issuer: state.age for issuer, state in states.items()})
    yield Family(
        "members_issuer_key_failures",
        "counter",
        "Failed attempts to load an issuer's keys.",
        ("issuer",),
    ).put_all({issuer: state.failures for issuer, state in states.items()})


def _mongodb_metrics(counts: OperationCounts) -> Iterator[Family]:
    yield Family(
        "members_mongodb_operation_duration_seconds",
        "histogram",
        "Duration of successful and failed operations, including time in queues.",
        ("operation",),
        values={(operation,): times for operation, times in list(counts.times.items())},
    )
    yield Family(
        "members_mongodb_operation_failures",
        "counter",
        "Failed operations: unavailable (time-out, no primary ...), held-up (not sent) or refused.",
        ("operation", "reason"),
        values=dict(counts.failures.items()),
    )


def _list_metric(lists: ListPreparation) -> Family:
    return Family(
        "members_list_fields_backfilled",
        "counter",
        "Members written by other programs that received the fields by which lists find them.",
    ).put(lists.folding.filled_in)
