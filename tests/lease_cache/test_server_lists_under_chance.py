"""Lists of servers that are replaced under load, with processes that are killed and cut off.

All of these "processes" are tasks of this one. A process that is cut off from the registry goes on
reading the cache, and the others take it for ended.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.lease_cache.test_lease_cache import own_memcached
from tests.lease_cache.test_pending_flushes_under_chance import (
    Load,
    end,
)
from tests.lease_cache.test_server_lists import Path
from tests.support.registry import MemoryRegistry
from tests.support.waiting import until
from tornado_members.lease_cache import server_lists
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.epochs import NodeEpoch
from tornado_members.lease_cache.node_pool import NodePool
from tornado_members.lease_cache.registry import canonical

PROCESSES = 3
VALID, RENEW, CHANGE = 1.0, 0.3, 0.03  # seconds


class Storm(Load):
    """A load on nodes whose list is replaced again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, longest_pause=0.2)
        self.registry = MemoryRegistry()
        self.hits_by_list: dict[str, int] = {}
        self.paths: dict[asyncio.Task[None], Path] = {}

    def start(self, servers: Sequence[str]) -> asyncio.Task[None]:
        """Start a process. It is killed by a cancellation, and its knowledge is lost then."""
        path = Path(self.registry)
        process = asyncio.create_task(self.run(servers, path))
        self.paths[process] = path
        return process

    async def until_in_force(self, servers: Sequence[str]) -> None:
        wanted = (canonical(servers), None)
        await until(
            lambda: (
                (found := self.registry.list) is not None
                and (found.servers, found.replaces) == wanted
            )
        )

    def note_hit(self, cache: LeaseCache) -> None:
        in_force = ",".join(node.address for node in cache.nodes)
        self.hits_by_list[in_force] = self.hits_by_list.get(in_force, 0) + 1


@asynccontextmanager
async def storm(seconds: float, seed: int) -> AsyncIterator[Storm]:
    """Roll from list to list for so many seconds, then yield the findings."""
    async with AsyncExitStack() as stack:
        addresses = [(await stack.enter_async_context(own_memcached()))[1] for _ in range(3)]
        lists = [addresses[:2], addresses[1:], [addresses[2], addresses[0]]]
        running, loop = Storm(seed), asyncio.get_running_loop()
        chance, stop_at = running.chance, loop.time() + seconds
        processes = [running.start(lists[0]) for _ in range(PROCESSES)]
        number = 0
        try:
            while loop.time() < stop_at:
                await asyncio.sleep(1 + chance.random())
                number += 1
                cut_off = chance.randrange(PROCESSES) if number % 2 else None
                for place in chance.sample(range(PROCESSES), PROCESSES):
                    old, new = processes[place], lists[number % len(lists)]
                    processes[place] = running.start(new)
                    await asyncio.sleep(0.2 * chance.random())
                    if place == cut_off:  # it reads and writes on, and cannot withdraw
                        running.paths[old].is_cut = True
                        loop.call_later(6, old.cancel)
                    else:
                        await end(old)
                await running.until_in_force(new)
        finally:
            for process in running.paths:
                await end(process)
            for register in running.registers.values():
                await asyncio.gather(*register.commits, return_exceptions=True)
        yield running


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_lists, "VALID_SECONDS", VALID)
    monkeypatch.setattr(server_lists, "_RENEW_SECONDS", RENEW)
    monkeypatch.setattr(server_lists, "_CHANGE_SECONDS", CHANGE)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3))
async def test_reads_are_never_stale_while_lists_are_replaced(seed: int) -> None:
    async with storm(22, seed) as outcome:
        assert [hits > 20 for hits in outcome.hits_by_list.values()] == [True] * 3
        assert outcome.wrong == []


async def _nothing(*_: object) -> None:
    pass


def _without(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove one rule of server_lists.py."""
    match rule:
        case "no reads while a list is replaced":
            always = property(lambda _: True, lambda *_: None)
            monkeypatch.setattr(NodePool, "is_read", always, raising=False)
        case "the id beside the epoch":
            monkeypatch.setattr(
                NodeEpoch, "list_id", property(lambda _: b"0" * 16, lambda *_: None), raising=False
            )
        case "no writes before the registration":
            monkeypatch.setattr(server_lists.ServerLists, "ensure_registered", _nothing)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "rule",
    [
        "no reads while a list is replaced",
        "the id beside the epoch",
        "no writes before the registration",
    ],
)
async def test_reads_are_stale_without_any_one_rule(
    monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    _without(rule, monkeypatch)
    for seed in range(2):
        async with storm(12, seed) as outcome:
            if outcome.wrong:
                return
    raise AssertionError("the rule is not needed, or not tested")
