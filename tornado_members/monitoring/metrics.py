"""Every metric on one screen, made from what the rooms count, when somebody asks.

Labels have few values: routes, not paths; settings, not members. docs/operations.md has them all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tornado_members.auth.keys import KeySource
from tornado_members.auth.tokens import TokenCounts
from tornado_members.cache.counts import CacheCounts
from tornado_members.cache.invalidator import InvalidatorNumbers
from tornado_members.directory import MemberDirectory
from tornado_members.monitoring.process import Facts, LoopLag, process_metrics
from tornado_members.storage.mongo import OperationCounts
from tornado_members.telemetry.metrics import Family, Histogram, Labels
from tornado_members.telemetry.request_metrics import RequestMetrics


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is counted where, in this process."""

    requests: RequestMetrics
    directory: MemberDirectory
    tokens: TokenCounts
    keys: Mapping[str, KeySource]
    operations: OperationCounts
    invalidator: InvalidatorNumbers
    lag: LoopLag
    facts: Facts

    def collect(self) -> list[Family]:
        """Everything, as it is now."""
        return [
            *_of_requests(self.requests),
            *_of_cache(self.directory.cache_counts, self.directory.cache_states()),
            *_of_change_stream(self.invalidator),
            *_of_tokens(self.tokens, self.keys),
            *_of_mongodb(self.operations),
            *process_metrics(self.lag, self.facts),
        ]


def _of_requests(requests: RequestMetrics) -> Iterator[Family]:
    answered = Family(
        "members_http_requests",
        "counter",
        "Requests that were answered; route is the pattern of the path.",
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
        "From a request's headers to the end of its answer's making, whatever the status.",
        ("route", "method"),
        values=dict(durations.items()),
    )
    yield Family("members_http_requests_in_flight", "gauge", "Requests that are under way.").put(
        requests.in_flight
    )


def _of_cache(counts: CacheCounts, states: Mapping[str, str | None]) -> Iterator[Family]:
    yield Family(
        "members_cache_reads",
        "counter",
        "Reads of an entry: hit, miss, or bypass (straight to the database).",
        ("result",),
    ).put_all({"hit": counts.hits, "miss": counts.misses, "bypass": counts.bypasses.total()})
    yield Family(
        "members_cache_bypasses",
        "counter",
        "Reads past the cache, by the reason that Cache-Status gives.",
        ("reason",),
    ).put_all(counts.bypasses)
    yield Family(
        "members_cache_fills",
        "counter",
        "What a miss ended in: stored, or not, because the lease was another's (leased), a write "
        "came in between (overtaken), or the node did not answer (node-away).",
        ("result",),
    ).put_all({"stored": counts.fills, **counts.refused_fills})
    yield Family(
        "members_cache_unannounced_writes",
        "counter",
        "Writes that went on without a tombstone, since a node was away.",
    ).put(counts.unannounced_writes)
    yield Family(
        "members_cache_taints", "counter", "Times that a node was found to have missed something."
    ).put(counts.taints)
    yield Family(
        "members_cache_epochs_set", "counter", "Times that a node was emptied by a new epoch."
    ).put(counts.epochs_set)
    yield Family(
        "members_cache_nodes_unread",
        "gauge",
        "Processes that read past a node now, by node and reason; none is listed for one that is "
        "read by all.",
        ("node", "reason"),
        values={(node, reason): 1 for node, reason in states.items() if reason},
    )
    yield Family(
        "members_cache_nodes", "gauge", "Nodes of the cache, as configured.", merge="max"
    ).put(len(states))


def _of_change_stream(numbers: InvalidatorNumbers) -> Iterator[Family]:
    yield Family(
        "members_change_stream_followers",
        "gauge",
        "Processes of this service that follow the change stream: 1 in the whole cluster.",
    ).put(int(numbers.is_holder))
    yield Family("members_change_stream_events", "counter", "Changes that MongoDB told of.").put(
        numbers.events
    )
    yield Family(
        "members_change_stream_lag_seconds",
        "gauge",
        "From the last change to its removal from the cache, by two clocks.",
        merge="max",
    ).put(numbers.lag_seconds or 0.0)
    yield Family(
        "members_change_stream_reopenings", "counter", "Times that the stream was opened again."
    ).put(numbers.reopened)
    yield Family(
        "members_change_stream_histories_lost",
        "counter",
        "Times that changes were lost, and all of the cache was emptied.",
    ).put(numbers.lost_histories)
    yield Family(
        "members_change_stream_failed_removals",
        "counter",
        "Changes that could not be removed from the cache at once.",
    ).put(numbers.failed_removals)


def _of_tokens(counts: TokenCounts, keys: Mapping[str, KeySource]) -> Iterator[Family]:
    yield Family(
        "members_token_checks",
        "counter",
        "Tokens by outcome: remembered, verified, refused, or unknown for want of keys.",
        ("outcome",),
    ).put_all(
        {
            "remembered": counts.remembered,
            "verified": counts.verified,
            "refused": counts.refused.total(),
            "unknown": counts.keys_away,
        }
    )
    yield Family(
        "members_token_refusals", "counter", "Tokens that were refused, by reason.", ("reason",)
    ).put_all(counts.refused)
    states = {issuer: source.state() for issuer, source in keys.items()}
    yield Family(
        "members_issuer_keys",
        "gauge",
        "Keys of an issuer that tokens are checked with; 0 if none can be had.",
        ("issuer",),
        "max",
    ).put_all({issuer: state.count for issuer, state in states.items()})
    yield Family(
        "members_issuer_keys_age_seconds",
        "gauge",
        "Since the keys of an issuer were last found to be the right ones.",
        ("issuer",),
        "max",
    ).put_all({issuer: state.age for issuer, state in states.items()})
    yield Family(
        "members_issuer_key_failures",
        "counter",
        "Attempts to have the keys of an issuer that failed.",
        ("issuer",),
    ).put_all({issuer: state.failures for issuer, state in states.items()})


def _of_mongodb(counts: OperationCounts) -> Iterator[Family]:
    yield Family(
        "members_mongodb_operation_duration_seconds",
        "histogram",
        "Operations of the stores, waiting for their turn included, however they ended.",
        ("operation",),
        values={(operation,): times for operation, times in list(counts.times.items())},
    )
    yield Family(
        "members_mongodb_operation_failures",
        "counter",
        "Operations that failed: away (no answer in time, no primary ...) or refused.",
        ("operation", "reason"),
        values=dict(counts.failures.items()),
    )
