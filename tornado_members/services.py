"""The composition root: opens everything that the handlers and the admin listener use."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from tornado_members.auth.keys import KeySource
from tornado_members.auth.login import Login, open_login
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.rate_limit import RateLimit
from tornado_members.auth.revocations import open_revocations
from tornado_members.auth.shared_counts import open_counts
from tornado_members.auth.sources import open_key_sources
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.auth.user_accounts import UserAccounts
from tornado_members.directory import Cache, MemberDirectory
from tornado_members.feed.change_feed import ChangeFeed, FeedLimits
from tornado_members.feed.cursors import Cursors
from tornado_members.http.admission import AdmissionControl
from tornado_members.http.common_headers import CommonHeaders, RequestIds
from tornado_members.http.deadlines import Deadlines, open_deadlines
from tornado_members.http.forwarded import TrustedProxies
from tornado_members.http.large_reads import LargeReads
from tornado_members.http.load_shedding import LoadShedder
from tornado_members.http.spool_budget import SpoolBudget
from tornado_members.invalidator import InvalidatorStatus, invalidating
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.node_health import Timing
from tornado_members.model.fields import FieldTable
from tornado_members.settings import Console, Cors, Members, Settings
from tornado_members.storage import name_ranges
from tornado_members.storage.cache_registry import CacheRegistry
from tornado_members.storage.changes import MemberChanges
from tornado_members.storage.contradictions import reporting_contradictions
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.elections import Elections
from tornado_members.storage.feed_source import FeedSource
from tornado_members.storage.leader_election import LeaderElection
from tornado_members.storage.list_preparation import START_SECONDS, ListPreparation
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.pending_flushes import PendingFlushCollection
from tornado_members.storage.stores import Stores, open_lists, open_stores, open_streams
from tornado_members.storage.users import UserStore
from tornado_members.telemetry.request_metrics import RequestMetrics
from tornado_members.telemetry.tracing import Tracer, open_tracer
from tornado_members.ticks import align


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The parts of the service that the admin listener reports on."""

    mongo: Mongo
    lists: ListPreparation
    driver: str  # mongodb.driver
    keys: Mapping[str, KeySource]  # by issuer
    change_stream: InvalidatorStatus
    follows_changes: bool  # False without a cache, and for commands


@dataclass(frozen=True, slots=True)
class Services:
    """The services that the handlers use."""

    directory: MemberDirectory
    fields: FieldTable  # of members
    tokens: TokenVerifier
    feed: ChangeFeed
    requests: RequestMetrics
    request_ids: RequestIds
    tracer: Tracer | None  # None without telemetry.otlp_endpoint
    login: Login | None  # None without login.enabled or a signing key
    accounts: UserAccounts | None  # the users of the login; None without it
    rules: Members
    own_keys: KeySource | None  # the keys that verify the tokens of this service
    cors: Cors
    common_headers: CommonHeaders  # of the responses of handlers
    base_path: str  # the prefix of all paths; empty by default
    console: Console
    write_seconds: float  # how long a client may read nothing of a streamed response
    spool_budget: SpoolBudget  # of the temporary files of imports
    proxies: TrustedProxies
    proxied_etags: bool  # True if clients send entity tags that proxies have changed
    deadlines: Deadlines
    large_reads: LargeReads
    most_requests: int  # in flight
    load_shedder: LoadShedder
    rate_limit: RateLimit | None  # None without rate_limit.requests_per_minute
    admission: AdmissionControl
    dependencies: Dependencies
    cluster_id: str


@dataclass(frozen=True, slots=True)
class Opening:
    """The work that a worker does for all workers when it opens the services."""

    is_first: bool = False  # of the workers with these settings: logs for all of them
    drop_indexes: bool = False  # of attributes that are not declared as indexed
    # The start waits until lists are prepared, because other workers serve them meanwhile.
    waits_for_lists: bool = False


def cache_namespace(database: str, cluster_id: str) -> str:
    """Return the namespace of a cluster's keys in Memcached.

    It contains the name of the database, because a copy of a database has the id of its source.
    """
    return f"{database}:{cluster_id}"


@asynccontextmanager
async def open_directory(
    settings: Settings, stores: Stores, cache_servers: tuple[str, ...]
) -> AsyncIterator[MemberDirectory]:
    """Open the members with the cache in front of them."""
    cache = make_cache(settings, cache_servers, stores)
    try:
        await cache.open()
        fields = stores.members.fields
        yield MemberDirectory(stores.members, cache, stores.audit, fields, stores.groups)
    finally:
        await cache.close()


def make_cache(settings: Settings, servers: tuple[str, ...], stores: Stores) -> Cache:
    """Return the cache of a service. Tests replace this function to use another cache."""
    namespace = cache_namespace(settings.mongodb.database, stores.cluster_id)
    timing = Timing(
        heartbeat=settings.cache.heartbeat_ms / 1000,
        timeout=settings.cache.timeout_ms / 1000,
        return_after=settings.cache.return_ms / 1000,
        align=align,
    )
    return LeaseCache(
        servers,
        connect=partial(MemcachedNode, timeout=timing.timeout, probe_interval=timing.pause),
        namespace=namespace,
        ttl=settings.cache.ttl_seconds,
        timing=timing,
        write_deadline=stores.mongo.deadline,
        flush_store=PendingFlushCollection(stores.mongo),
        registry=CacheRegistry(stores.mongo),
        terms=Elections(stores.mongo),
        require_for_writes=settings.cache.require_for_writes,
    )


def prepare_tables() -> None:
    """Build the tables that need no settings. Processes that are forked afterwards share them."""
    name_ranges.prepare()


@asynccontextmanager
async def open_services(
    settings: Settings,
    mongodb_uri: str,
    cache_servers: tuple[str, ...],
    *,
    tail_changes: bool = True,
    cluster_id: str | None = None,
    fields: FieldTable | None = None,
    opening: Opening = Opening(),  # it is immutable
) -> AsyncIterator[Services]:
    """Open the services; `cluster_id` is that of the workers that this process joins.

    `fields` are those that the settings declare, by default.

    Raises MongoDBUnusable, DatabaseMismatch, KeysUnusable, SettingsError.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tracer = await enter(open_tracer(settings.telemetry, settings.server))
        keys = await enter(open_key_sources(settings))
        stores = await enter(
            open_stores(
                settings,
                mongodb_uri,
                cluster_id,
                fields,
                drop_indexes=opening.drop_indexes,
                logs_unused_indexes=opening.is_first,
            )
        )
        streams = await enter(open_streams(settings, mongodb_uri, stores.mongo))
        fields = stores.members.fields
        prepare_tables()  # now, as no request waits for the event loop yet
        stores.mongo.operations.listener = tracer.add_operation if tracer else None
        directory = await enter(open_directory(settings, stores, cache_servers))
        max_wait = None if opening.waits_for_lists else START_SECONDS
        await enter(open_lists(stores, mongodb_uri, max_wait))
        if opening.is_first:
            await enter(reporting_contradictions(stores.mongo, fields))
        status, follows = InvalidatorStatus(), tail_changes and bool(cache_servers)
        if follows:
            changes = MemberChanges(streams)
            election = LeaderElection(stores.mongo, "invalidator")
            await enter(invalidating(changes, election, directory, status))
        own = OwnIssuer.from_settings(settings)
        revocations = await enter(open_revocations(own, stores.users)) if own else None
        namespace = cache_namespace(settings.mongodb.database, stores.cluster_id)
        counts = await enter(open_counts(settings.cache, cache_servers, namespace=namespace))
        login = await enter(open_login(settings, own, stores.users, counts))
        per_minute = settings.rate_limit.requests_per_minute
        rate_limit = RateLimit(counts, per_minute) if per_minute else None
        tokens = TokenVerifier(settings.auth, keys, revocations=revocations)
        feed = await enter(open_feed(settings, stores, streams, directory, tokens))
        requests = RequestMetrics()
        yield Services(
            directory=directory,
            feed=feed,
            fields=fields,
            tokens=tokens,
            requests=requests,
            request_ids=RequestIds(),
            tracer=tracer,
            login=login,
            accounts=_make_accounts(own, login, stores.users),
            rules=settings.members,
            own_keys=keys[own.name] if own and own.can_sign else None,
            cors=settings.cors,
            common_headers=CommonHeaders(settings.cors),
            base_path=settings.server.base_path,
            console=settings.console,
            write_seconds=settings.server.limits.write_seconds,
            spool_budget=SpoolBudget(
                settings.members.import_spool_mib * 2**20,
                settings.members.import_spool_mib_per_caller * 2**20,
            ),
            proxies=TrustedProxies(settings.server.trusted_proxies),
            proxied_etags=settings.server.proxied_etags,
            deadlines=await enter(open_deadlines(settings.server.limits.request_seconds)),
            large_reads=LargeReads(),
            most_requests=settings.server.limits.requests,
            load_shedder=LoadShedder(requests, lambda: stores.mongo.waits.recent),
            rate_limit=rate_limit,
            admission=AdmissionControl(tokens, rate_limit, fields),
            dependencies=Dependencies(
                stores.mongo, stores.lists, settings.mongodb.driver, keys, status, follows
            ),
            cluster_id=stores.cluster_id,
        )


def _make_accounts(
    own: OwnIssuer | None, login: Login | None, users: UserStore
) -> UserAccounts | None:
    if own is None or login is None:
        return None
    return UserAccounts(users, login.passwords, own.max_token_seconds)


@asynccontextmanager
async def open_feed(
    settings: Settings,
    stores: Stores,
    streams: Mongo,
    directory: MemberDirectory,
    tokens: TokenVerifier,
) -> AsyncIterator[ChangeFeed]:
    """Yield the change feed. It opens a change stream with its first subscriber."""
    feed = ChangeFeed(
        FeedSource(streams, MemberCodec(stores.members.fields), stores.audit),
        directory.invalidate_for_all,
        Cursors(cache_namespace(settings.mongodb.database, stores.cluster_id)),
        tokens,
        FeedLimits(
            subscribers=settings.feed.subscribers,
            buffer_bytes=settings.feed.buffer_mib * 2**20,
            write_seconds=settings.server.limits.write_seconds,
        ),
    )
    try:
        yield feed
    finally:
        await feed.close()
