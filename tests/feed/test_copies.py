"""Copies that clients keep from an export and the feed, compared with MongoDB under faults.

Each rule of the feed is also broken once, and the same check then finds the copy wrong.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from tornado.netutil import bind_sockets

from tests.support.api import token_of
from tests.support.cluster import Cluster
from tests.support.faults import Faults
from tests.support.feed_copy import Address, Churn, FeedCopy
from tests.support.replica_set import ReplicaSet
from tests.support.wire import address_of
from tornado_members.app import make_app
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.feed.change_feed import ChangeFeed
from tornado_members.feed.event_log import EventLog
from tornado_members.feed.reader import FeedReader
from tornado_members.services import open_services
from tornado_members.serving.server import make_server
from tornado_members.settings import Settings
from tornado_members.storage.feed_source import FeedBatch

Admin = pymongo.MongoClient[dict[str, Any]]

SECONDS = 60  # in which each copy must be right at the end
FAULTS = ("node-kill", "cut", "service-kill")
MANY_FAULTS = (*FAULTS, "process-stop", "replacement", "garbage", "freeze", "delay", "node-stop")


@asynccontextmanager
async def churning(copies: list[FeedCopy], churn: Churn) -> AsyncIterator[None]:
    """Change members and keep copies while the block runs, and then check the copies."""
    keeping = [asyncio.create_task(copy.keep()) for copy in copies]
    changing = asyncio.create_task(churn.run())
    try:
        yield
        assert not any(task.done() for task in (*keeping, changing)), "a client has failed"
        changing.cancel()
        await asyncio.wait([changing])
        members = churn.members
        await asyncio.gather(*(copy.until_equal(members, SECONDS) for copy in copies))
        # The last reads are in progress.
        await asyncio.sleep(0.3)
    finally:
        changing.cancel()
        for task in keeping:
            task.cancel()
        await asyncio.wait([*keeping, changing])
        await asyncio.sleep(0.05)  # the loop closes connections later


async def until_changed(churn: Churn, copies: list[FeedCopy], changes: int, reads: int) -> None:
    """Wait until so many changes were made, and each copy has read so many members."""
    async with asyncio.timeout(SECONDS):
        while churn.changes < changes or min(copy.reads for copy in copies) < reads:
            await asyncio.sleep(0.02)


# Two services of this process, whose caches only the feed invalidates.


@asynccontextmanager
async def two_services(
    settings: Settings, servers: PrivateServers, cache_servers: tuple[str, ...]
) -> AsyncIterator[list[Address]]:
    async with AsyncExitStack() as stack:
        addresses = []
        for _ in range(2):
            services = await stack.enter_async_context(
                open_services(settings, servers.mongodb_uri, cache_servers, tail_changes=False)
            )
            server = make_server(make_app(services), settings.server.limits)
            stack.push_async_callback(server.close_all_connections)
            stack.callback(server.stop)
            server.add_sockets(bind_sockets(0, "127.0.0.1"))
            addresses.append(address_of(server))
        yield addresses


def report_without_invalidating_the_cache(patch: pytest.MonkeyPatch) -> None:
    process = FeedReader._process

    async def invalidate_nothing(_found: Mapping[int, str | None]) -> None:
        pass

    async def process_only(self: FeedReader, batch: FeedBatch) -> None:
        # A late invalidation would be detected only if a read happened to be faster.
        self._invalidate = invalidate_nothing
        await process(self, batch)

    patch.setattr(FeedReader, "_process", process_only)


def resume_one_event_late(patch: pytest.MonkeyPatch) -> None:
    position_after = EventLog.position_after
    patch.setattr(
        EventLog,
        "position_after",
        lambda self, token: min(position_after(self, token) + 1, self.last),
    )


def drop_events_between_two_streams(patch: pytest.MonkeyPatch) -> None:
    attach = ChangeFeed._attach

    async def attach_now(self: ChangeFeed, subscription: Any, _token: str | None) -> None:
        await attach(self, subscription, None)

    patch.setattr(ChangeFeed, "_attach", attach_now)


BROKEN = [
    report_without_invalidating_the_cache,
    resume_one_event_late,
    drop_events_between_two_streams,
]


# The default run finds each of these rules broken in test_changes.py.
@pytest.mark.parametrize(
    "broken", [None, *(pytest.param(rule, marks=pytest.mark.exhaustive) for rule in BROKEN)]
)
async def test_copies_are_right_unless_a_rule_is_broken(
    settings: Settings,
    servers: PrivateServers,
    emptied_cache: tuple[str, ...],
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None] | None,
) -> None:
    if broken:
        broken(monkeypatch)
        monkeypatch.setattr("tests.feed.test_copies.SECONDS", 2)
    async with two_services(settings, servers, emptied_cache) as addresses:
        token = token_of(3)
        members = admin[settings.mongodb.database]["members"]
        copies = [
            FeedCopy(addresses, token, seed=1, events_per_stream=4),
            FeedCopy(addresses, token, seed=2),
        ]
        churn = Churn(members, addresses, token)
        most = 150 if broken else 60  # so that a broken rule is found with certainty
        async with churning(copies, churn):
            await until_changed(churn, copies, most, 40)
        faults = [fault for copy in copies for fault in copy.faults]
        assert bool(faults) == (broken is not None), faults


# Services as processes, which are killed, stopped, replaced and cut off.


async def keep_copies(
    cluster: Cluster, members: Any, inject: Callable[[Churn], Awaitable[None]]
) -> str:
    """Keep two copies while faults are injected; return the faults that the check finds."""
    addresses = [("127.0.0.1", service.port) for service in cluster.services]
    copies = [
        FeedCopy(addresses, cluster.token, seed=1),
        FeedCopy(addresses, cluster.token, seed=2, events_per_stream=50),
    ]
    churn = Churn(members, addresses, cluster.token, pause=0.02)
    async with churning(copies, churn):
        await inject(churn)
        await until_changed(churn, copies, 40, 30)
    assert all(copy.events >= 30 for copy in copies)
    assert sum(copy.streams for copy in copies) > 2
    return "\n".join(fault for copy in copies for fault in copy.faults)


def test_copies_survive_the_loss_of_services_and_nodes(
    folder: Path, servers: PrivateServers, admin: Admin
) -> None:
    asyncio.run(_lose_services_and_nodes(folder, servers, admin))


async def _lose_services_and_nodes(folder: Path, servers: PrivateServers, admin: Admin) -> None:
    cluster = Cluster(
        folder, servers.mongodb_uri, database="feed", processes=2, nodes=2, proxied=1, seed=3
    )
    admin["feed"]["members"].delete_many({})
    async with cluster:

        async def inject(_churn: Churn) -> None:
            faults = Faults(cluster, longest=0.8)
            for kind in FAULTS:
                await asyncio.sleep(0.3)
                await faults.inject(kind)

        assert not await keep_copies(cluster, admin["feed"]["members"], inject)


@pytest.mark.exhaustive
def test_copies_survive_many_faults_and_failovers(folder: Path) -> None:
    asyncio.run(_many_faults_and_failovers(folder))


async def _many_faults_and_failovers(folder: Path) -> None:
    async with ReplicaSet(folder) as replica_set:
        cluster = Cluster(folder, replica_set.uri, processes=2, nodes=2, proxied=2)
        client = Admin(replica_set.uri, w="majority", timeoutMS=20_000)
        async with cluster:

            async def inject(churn: Churn) -> None:
                faults = Faults(cluster, longest=2, without_writes=churn.paused)
                for _ in range(2):
                    for kind in MANY_FAULTS:
                        await asyncio.sleep(0.5)
                        await faults.inject(kind)
                    for lose in (
                        replica_set.kill_primary,
                        replica_set.freeze_primary,
                        replica_set.step_down,
                    ):
                        await asyncio.sleep(1)
                        await lose()
                await replica_set.all_well()

            assert not await keep_copies(cluster, client["test"]["members"], inject)
        client.close()
