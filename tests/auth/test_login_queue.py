"""The order in which waiting logins are served, and which are refused."""

import asyncio
from contextlib import suppress

import pytest

from tornado_members.auth.login_queue import LoginQueue, Source
from tornado_members.errors import Overloaded


class Run:
    """Logins that wait in a queue whose turn is occupied until `serve_all`."""

    def __init__(self, max_waiting: int = 32) -> None:
        self.now = 1000.0
        self.queue = LoginQueue(max_waiting, lambda: self.now)
        self.served: list[str] = []
        self.refused: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._gate = asyncio.Event()

    async def __aenter__(self) -> "Run":
        await self.add("gate")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gate.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def attempts(self, **counts: int) -> None:
        """Count attempts of sources in advance."""
        for name, count in counts.items():
            for _ in range(count):
                self.queue._attempts.add(name.encode())

    async def add(self, *names: str, is_recent: bool = False) -> None:
        """Add logins; the first letter of a login names its source."""
        for name in names:
            source = Source(name[:1].encode(), is_recent)
            self._tasks.append(asyncio.create_task(self._log_in(name, source)))
            for _ in range(3):  # then it waits, and the login that it displaces is refused
                await asyncio.sleep(0)

    async def cancel(self, name: str) -> None:
        (task,) = [task for task in self._tasks if task.get_name() == name]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        self._tasks.remove(task)

    async def serve_all(self) -> list[str]:
        self._gate.set()
        await asyncio.gather(*self._tasks)
        return self.served[1:]

    async def _log_in(self, name: str, source: Source) -> None:
        task = asyncio.current_task()
        assert task
        task.set_name(name)
        try:
            async with self.queue.turn(source):
                self.served.append(name)
                await self._gate.wait()
                await asyncio.sleep(0)
        except Overloaded:
            self.refused.append(name)


async def test_queue_serves_sources_in_turn() -> None:
    async with Run() as run:
        await run.add("a1", "a2", "a3", "b1", "b2", "c1")
        # Every fourth turn goes to the login that has waited longest.
        assert await run.serve_all() == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_queue_serves_frequent_sources_last() -> None:
    async with Run() as run:
        await run.attempts(a=9, b=2)
        await run.add("a1", "b1", "c1")
        assert await run.serve_all() == ["c1", "b1", "a1"]


async def test_queue_forgets_attempts_in_the_period_after_the_next() -> None:
    async with Run() as run:
        await run.attempts(a=9)
        run.now += 60
        await run.attempts(b=1)
        run.now += 60
        await run.add("b1", "a1")
        assert await run.serve_all() == ["a1", "b1"]


async def test_queue_refuses_a_login_that_waited_too_long() -> None:
    async with Run() as run:
        await run.add("a1", "b1", "c1", is_recent=True)
        await run.add("d1")
        run.now += 9
        await run.add("e1")
        run.now += 2
        assert await run.serve_all() == ["e1"]
        assert sorted(run.refused) == ["a1", "b1", "c1", "d1"]


async def test_queue_alternates_between_recent_users_and_others() -> None:
    async with Run() as run:
        await run.attempts(r=99, s=9)
        await run.add("a1", "b1", "c1")
        await run.add("r1", "r2", "s1", "s2", is_recent=True)
        assert await run.serve_all() == ["s1", "a1", "s2", "b1", "r1", "c1", "r2"]


async def test_full_queue_refuses_the_most_frequent_source() -> None:
    async with Run(max_waiting=3) as run:
        await run.add("a1", "a2", "a3", "a4")
        assert run.refused == ["a4"]
        await run.add("b1", "b2")
        assert run.refused == ["a4", "a3", "b2"]
        await run.add("c1")
        assert run.refused == ["a4", "a3", "b2", "a2"]
        await run.add("a5", is_recent=True)  # another queue
        await run.add("a6")  # refused attempts count as well
        assert run.refused == ["a4", "a3", "b2", "a2", "a6"]
        assert sorted(await run.serve_all()) == ["a1", "a5", "b1", "c1"]


async def test_queue_does_not_delay_a_frequent_source_forever() -> None:
    queue = LoginQueue(max_waiting=4)
    served: list[bytes] = []

    async def log_in(key: bytes) -> None:
        async with queue.turn(Source(key)):
            served.append(key)
            await asyncio.sleep(0)

    for _ in range(5):
        queue._attempts.add(b"frequent")
    tasks = [asyncio.create_task(log_in(key)) for key in (b"first", b"frequent")]
    for number in range(40):
        tasks.append(asyncio.create_task(log_in(b"%d" % number)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(served) > 20
    assert served.index(b"frequent") <= 4


async def test_queue_reuses_the_place_and_turn_of_a_cancelled_login() -> None:
    async with Run() as run:
        await run.add("a1", "b1", "c1")
        await run.cancel("b1")
        assert await run.serve_all() == ["a1", "c1"]
    queue = LoginQueue()
    entered = asyncio.Event()

    async def log_in() -> None:
        async with queue.turn(Source(b"a")):
            entered.set()

    async with queue.turn(Source(b"b")):
        task = asyncio.create_task(log_in())
        await asyncio.sleep(0)
    task.cancel()  # in the same turn of the loop in which its turn came
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not entered.is_set()
    async with asyncio.timeout(60), queue.turn(Source(b"c")):
        pass
