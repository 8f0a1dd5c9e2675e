"""A copy of all members, kept from an export and the change feed, and a check of the copy.

The check uses only the promise of docs/feed.md: at the end the copy equals MongoDB; the versions
of a member never go backward; and a read that starts after an event was received is not older than
the event, through any service.
"""

import asyncio
import json
import random
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from tests.support.feed_client import Event, FeedStream, StreamEnded, following
from tests.support.http_client import HttpClient, NoResponse

Address = tuple[str, int]
_MOST_READS = 16  # at once
_SECONDS = 20  # without an event or a comment, after which the client reconnects


class FeedCopy:
    """One client that follows the feed through any of several services."""

    def __init__(
        self,
        addresses: Sequence[Address],
        token: str,
        *,
        seed: int = 0,
        events_per_stream: int | None = None,
    ) -> None:
        """With `events_per_stream`, the client breaks each connection after this many events."""
        self.members: dict[int, Any] = {}
        self.faults: list[str] = []
        self.events = self.streams = self.exports = self.reads = 0
        self.cursor: str | None = None
        self._versions: dict[int, int] = {}
        self._absent: dict[int, str] = {}  # members that were not found, with their Cache-Status
        self._addresses = addresses
        self._token = token
        self._chance = random.Random(seed)
        self._most = events_per_stream
        self._reading: set[asyncio.Task[None]] = set()
        self._idle_clients: dict[Address, list[HttpClient]] = {address: [] for address in addresses}

    async def keep(self) -> None:
        """Keep the copy until cancelled, through faults of the services."""
        try:
            while True:
                address = self._chance.choice(self._addresses)
                with suppress(StreamEnded, OSError, ValueError, urllib.error.URLError):
                    if self.cursor is None:
                        await asyncio.to_thread(self._take_export, address)
                    await self._follow(address)
                await asyncio.sleep(0.02)
        finally:
            for reading in self._reading:
                reading.cancel()
            if self._reading:
                await asyncio.wait(self._reading)
            for clients in self._idle_clients.values():
                for client in clients:
                    client.close()

    def _take_export(self, address: Address) -> None:
        host, port = address
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/x-ndjson"}
        request = urllib.request.Request(f"http://{host}:{port}/members", headers=headers)
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            members = [json.loads(line) for line in response.read().splitlines()]
            self.members = {member["memberId"]: member for member in members}
            self._versions.clear()
            self.cursor = response.headers["Changes-After"]
        self.exports += 1

    async def _follow(self, address: Address) -> None:
        async with following(address, self._token, f"?after={self.cursor}", ndjson=True) as stream:
            if stream.status == 410:
                self.cursor = None
            if stream.status != 200:
                return
            self.streams += 1
            await self._receive(stream)

    async def _receive(self, stream: FeedStream) -> None:
        received = 0
        while self._most is None or received < self._most:
            event = await stream.event(_SECONDS)
            received += 1
            self.cursor = event.id
            if event.kind in ("created", "changed", "deleted"):
                self._apply(event)

    def _apply(self, event: Event) -> None:
        self.events += 1
        member_id, version, member = (event.data[key] for key in ("memberId", "version", "member"))
        if event.kind == "deleted":
            self.members.pop(member_id, None)
            self._versions.pop(member_id, None)
        else:
            self.members[member_id] = member
            before = self._versions.get(member_id, 0)
            if version < before:
                self.faults.append(f"member {member_id} went from version {before} to {version}")
            self._versions[member_id] = version
        if len(self._reading) < _MOST_READS:
            reading = asyncio.create_task(self._read(member_id, version, event.kind))
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)

    async def _read(self, member_id: int, version: int | None, kind: str) -> None:
        """Read the member through any service: the result must not be older than the event."""
        address = self._chance.choice(self._addresses)
        idle = self._idle_clients[address]
        client = idle.pop() if idle else HttpClient(*address, self._token, timeout=_SECONDS)
        try:
            reply = await client(b"GET", b"/members/%d" % member_id)
        except NoResponse:
            return
        finally:
            idle.append(client)
        found = int(reply.headers[b"etag"].strip(b'"')) if reply.status == 200 else None
        if reply.status not in (200, 404):
            return
        self.reads += 1
        cache = reply.headers.get(b"cache-status", b"").decode()
        if kind == "deleted" and found is not None:
            self.faults.append(f"member {member_id} was read after its deletion ({cache})")
        elif kind != "deleted" and found is not None and found < (version or 0):
            self.faults.append(
                f"member {member_id} was read in version {found} after {version} ({cache})"
            )
        elif kind != "deleted" and found is None:
            self._absent[member_id] = cache  # right only if it was deleted since

    async def until_equal(self, members: "Collection[dict[str, Any]]", seconds: float) -> None:
        """Wait until the copy equals MongoDB; record a fault if it does not in time."""
        expected: dict[int, Any] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(PyMongoError):
                        expected = await asyncio.to_thread(stored, members)
                        if expected == self.members:
                            break
                    await asyncio.sleep(0.05)
        wrong = [
            f"member {member_id} is {copy} instead of {stored_member}"
            for member_id in sorted({*expected, *self.members})
            if (copy := self.members.get(member_id)) != (stored_member := expected.get(member_id))
        ]
        if wrong:
            self.faults.append(f"{len(wrong)} members differ: {wrong[:5]}")
        self.faults += [
            f"member {member_id} was not found after its creation ({cache})"
            for member_id, cache in self._absent.items()
            if member_id in expected
        ]


def stored(members: "Collection[dict[str, Any]]") -> dict[int, Any]:
    """Return all members in MongoDB as clients see them, by their ids."""
    return {
        int(each["_id"]): {
            "memberId": int(each["_id"]),
            **{name: each.get(name) for name in ("name", "email", "phone")},
        }
        for each in members.find()
    }


class Churn:
    """Changes members without pause: in MongoDB, and through services."""

    def __init__(
        self,
        members: "Collection[dict[str, Any]]",
        addresses: Sequence[Address] = (),
        token: str = "",
        *,
        seed: int = 0,
        pause: float = 0.005,
    ) -> None:
        """`pause` is in seconds, between two changes."""
        self.changes = 0
        self.members = members
        self._chance = random.Random(seed)
        self._pause = pause
        self._clients = [HttpClient(*address, token, timeout=_SECONDS) for address in addresses]
        self._known: list[int] = []
        self._may_change = asyncio.Event()
        self._may_change.set()

    async def run(self) -> None:
        """Change members until cancelled, through each service and in MongoDB at the same time."""
        changes = [partial(self._change_by_http, client) for client in self._clients]
        try:
            async with asyncio.TaskGroup() as tasks:
                for change in [*changes, partial(asyncio.to_thread, self._change_by_mongodb)]:
                    tasks.create_task(self._repeat(change))
        finally:
            for client in self._clients:
                client.close()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Change nothing during the block."""
        self._may_change.clear()
        try:
            yield
        finally:
            self._may_change.set()

    async def _repeat(self, change: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._may_change.wait()
            with suppress(PyMongoError, NoResponse):
                await change()
                self.changes += 1
            await asyncio.sleep(self._pause)

    def _forget(self, member_id: int) -> None:
        with suppress(ValueError):  # another one deleted it at the same time
            self._known.remove(member_id)

    def _new_name(self) -> str:
        return f"churn {self._chance.getrandbits(64):016x}"

    def _change_by_mongodb(self) -> None:
        choice = self._chance.random()
        if choice < 0.2 or not self._known:
            member_id = self._chance.randrange(10**9, 2 * 10**9)
            self.members.insert_one({"_id": member_id, "name": self._new_name(), "version": 1})
            self._known.append(member_id)
            return
        member_id = self._chance.choice(self._known)
        if choice < 0.3:
            self.members.delete_one({"_id": member_id})
            self._forget(member_id)
            return
        change: dict[str, Any] = {"phone": f"555 {self._chance.randrange(10**7):07}"}
        if choice < 0.5:
            change["name"] = self._new_name()
        self.members.update_one({"_id": member_id}, {"$set": change, "$inc": {"version": 1}})

    async def _change_by_http(self, client: HttpClient) -> None:
        choice = self._chance.random()
        if choice < 0.2 or not self._known:
            body = json.dumps({"name": self._new_name()}).encode()
            reply = await client(b"PUT", b"/members", body)
            if reply.status == 201:
                self._known.append(json.loads(reply.body)["memberId"])
            return
        path = b"/members/%d" % self._chance.choice(self._known)
        if choice < 0.3:
            reply = await client(b"DELETE", path)
            if reply.status == 204:
                self._forget(int(path.rpartition(b"/")[2]))
        elif choice < 0.7:
            await client(b"GET", path)  # fills the cache
        else:
            body = json.dumps({"phone": f"555 {self._chance.randrange(10**7):07}"}).encode()
            patch = b"Content-Type: application/merge-patch+json\r\n"
            await client(b"PATCH", path, body, patch)
