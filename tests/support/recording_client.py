"""One client of one service: it sends requests, and records every response as evidence."""

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from tests.support.histories import GONE, UNNAMED
from tests.support.hot_members import HotMembers, Record, ShortLivedName
from tests.support.http_client import NoResponse, Reply
from tests.support.programs import ServiceProgram

_MERGE_PATCH = b"Content-Type: application/merge-patch+json\r\n"
_PAUSE = 0.05  # seconds before a retry after a missing response
_BATCHES = 0.25  # the share of batches among the reads
_LISTS = 0.05  # and that of lists
_LIFE = 0.2  # seconds that a short-lived member exists, at most


class RecordingClient:
    """One client of one process: it sends one request after another, and records the responses."""

    def __init__(
        self,
        service: ServiceProgram,
        token: str,
        hot: HotMembers,
        record: Record,
        chance: random.Random,
    ) -> None:
        self._process = service.name
        self._client = service.client(token)
        self._hot = hot
        self._record = record
        self._chance = chance

    def close(self) -> None:
        self._client.close()

    async def read_something(self) -> None:
        """Read a member of any kind, by id or by name, or several of them at once."""
        hot, chance = self._hot, self._chance
        choice = chance.random()
        form = chance.random()
        if form < _BATCHES:
            await self.read_some()
        elif form < _BATCHES + _LISTS:
            names = [*hot.steady.values(), *hot.resting.values()]
            await self.read_list(chance.choice(names))
        elif choice < 0.45:
            await self.read(chance.choice([*hot.steady, *hot.renamed, *hot.resting]))
        elif choice < 0.6:
            await self.read(chance.choice([*hot.short_lived_ids()] or [*hot.steady]))
        elif choice < 0.8:
            names = [*hot.steady.values(), *hot.resting.values()]
            await self.read_by_name(chance.choice(names))
        elif choice < 0.9:
            await self.read_by_name(chance.choice(chance.choice([*hot.renamed.values()])))
        else:
            await self.read_by_name(chance.choice([*hot.short_lived_names]))

    async def write_something(self) -> None:
        """Write a member of any kind, by id or by name, with or without another name."""
        hot, chance = self._hot, self._chance
        choice = chance.random()
        if choice < 0.25:
            await self.replace(*chance.choice([*hot.steady.items()]))
        elif choice < 0.4:
            await self.patch(chance.choice([*hot.steady]))
        elif choice < 0.7:
            await self.replace_by_name(chance.choice([*hot.steady.values()]))
        elif choice < 0.9:
            member_id, names = chance.choice([*hot.renamed.items()])
            await self.replace(member_id, chance.choice(names))
        else:
            await self.replace(*chance.choice([*(hot.short_lived_ids() or hot.steady).items()]))

    async def read(self, member_id: int, *, no_cache: bool = False) -> None:
        """GET by id; with `no_cache`, from the database."""
        headers = b"Cache-Control: no-cache\r\n" if no_cache else b""
        reply = await self._send(b"GET", b"/members/%d" % member_id, headers=headers)
        if reply and reply.status in (200, 404):
            self._record.note_cache_status(reply)
            version = _version(reply) if reply.status == 200 else GONE
            self._record.note(reply, self._process, "read", member_id, version)

    async def read_some(self) -> None:
        """Read some members of all kinds at once."""
        hot, chance = self._hot, self._chance
        known = [*hot.steady, *hot.renamed, *hot.resting, *hot.short_lived_ids()]
        await self.read_batch(chance.sample(known, chance.randint(1, len(known))))

    async def read_batch(self, requested: Sequence[int]) -> None:
        """Read these members at once: a read of each of them."""
        if self._chance.random() < 0.5:
            listed = ",".join(map(str, requested)).encode()
            reply = await self._send(b"GET", b"/members?memberId=" + listed)
        else:
            body = json.dumps({"memberIds": [*requested]}).encode()
            reply = await self._send(b"POST", b"/members/lookup", body)
        if reply is None or reply.status != 200:
            return
        self._record.note_cache_status(reply, len(requested))
        content = json.loads(reply.body)
        items = {item["memberId"]: item for item in content["items"]}
        missing = content["missing"]
        if [*items] != [i for i in requested if i in items] or {*items, *missing} != {*requested}:
            self._record.wrong_responses.append(
                f"{self._process}: a batch of {requested} led to {content}"
            )
        self._record.batched += len(requested)
        for member_id in requested:
            self._record.note_item(reply, self._process, member_id, _encoded(items.get(member_id)))

    async def read_list(self, name: str) -> None:
        """List the member that keeps this name."""
        reply = await self._send(b"GET", b"/members?name=" + quote(name).encode())
        if reply is None or reply.status != 200:
            return
        items = json.loads(reply.body)["items"]
        if [item["name"] for item in items] != [name]:
            self._record.wrong_responses.append(
                f"{self._process}: the list of {name!r} was {items}"
            )
        self._record.listed += len(items)
        for item in items:
            self._record.note_item(reply, self._process, item["memberId"], _encoded(item))

    async def read_by_name(self, name: str) -> None:
        """GET by name: a read of a member and, for a short-lived one, a read of the name."""
        reply = await self._send(b"GET", _by_name(name))
        if reply is None or reply.status not in (200, 404):
            return
        self._record.note_cache_status(reply)
        short_lived = self._hot.short_lived_names.get(name)
        if reply.status == 404:
            if short_lived:
                self._record.note(reply, self._process, "read", name, UNNAMED)
            elif name in [*self._hot.steady.values(), *self._hot.resting.values()]:
                self._record.wrong_responses.append(f"{self._process}: {name!r} was not found")
            return
        found = json.loads(reply.body)
        if found["name"] != name:
            self._record.wrong_responses.append(f"{self._process}: {name!r} led to {found}")
        self._record.note(reply, self._process, "read", found["memberId"], _version(reply))
        if short_lived and (generation := short_lived.generation_of(found["memberId"])):
            self._record.note(reply, self._process, "read", name, generation)

    async def replace(self, member_id: int, name: str) -> None:
        """PUT by id."""
        body = self._hot.content(name)
        reply = await self._write(b"PUT", b"/members/%d" % member_id, body)
        if reply and reply.status == 200:
            self._record.note(reply, self._process, "write", member_id, _version(reply))
        elif reply and reply.status == 404:
            self._record.note(reply, self._process, "read", member_id, GONE)

    async def patch(self, member_id: int) -> None:
        """PATCH all fields but the name."""
        path, body = b"/members/%d" % member_id, self._hot.content()
        reply = await self._write(b"PATCH", path, body, headers=_MERGE_PATCH)
        if reply and reply.status == 200:
            self._record.note(reply, self._process, "write", member_id, _version(reply))

    async def replace_by_name(self, name: str) -> None:
        """PUT by the name of an existing member."""
        reply = await self._write(b"PUT", _by_name(name), self._hot.content())
        if reply and reply.status == 200:
            member_id = json.loads(reply.body)["memberId"]
            self._record.note(reply, self._process, "write", member_id, _version(reply))
        elif reply and reply.status == 201:
            self._record.wrong_responses.append(
                f"{self._process}: a second member {name!r} was created"
            )

    async def create(self, name: str) -> int | None:
        """PUT by a name that no member has; return the new id, unless it is unknown."""
        reply = await self._write(b"PUT", _by_name(name), self._hot.content())
        if reply is None or reply.status != 201:
            return None
        member_id: int = json.loads(reply.body)["memberId"]
        self._record.note(reply, self._process, "write", member_id, _version(reply))
        return member_id

    async def create_and_delete(self, short_lived: ShortLivedName) -> bool:
        """Create and delete a member with this name; False if the name's state is unknown."""
        with self._changing(short_lived) as outcome:
            member_id = await self.create(short_lived.name)
            outcome.append(member_id is not None)
        if member_id is None:
            return False
        short_lived.assign(member_id)
        await asyncio.sleep(_LIFE * self._chance.random())
        with self._changing(short_lived, member_id) as outcome:
            reply = await self._write(b"DELETE", b"/members/%d" % member_id)
            outcome.append(reply is not None and reply.status == 204)
        await asyncio.sleep(_LIFE * self._chance.random())
        return outcome == [True]

    @contextmanager
    def _changing(
        self, short_lived: ShortLivedName, deleted: int | None = None
    ) -> Iterator[list[bool]]:
        """Record the next generation of a name, and the end of the member that had it.

        The list that the block fills states whether the write was acknowledged. A write without a
        response is recorded as well: it may have happened.
        """
        short_lived.generation += 1
        attempt = Reply(time.monotonic())
        outcome: list[bool] = []
        try:
            yield outcome
        finally:
            attempt.end = time.monotonic()
            attempt.status = 204 if outcome == [True] else 0
            self._record.note(
                attempt, self._process, "write", short_lived.name, short_lived.generation
            )
            if deleted is not None:
                self._record.note(attempt, self._process, "write", deleted, GONE)

    async def _write(
        self, method: bytes, path: bytes, body: bytes = b"", *, headers: bytes = b""
    ) -> Reply | None:
        reply = await self._send(method, path, body, headers)
        self._record.unknown += reply is None or reply.status >= 500
        return reply

    async def _send(
        self, method: bytes, path: bytes, body: bytes = b"", headers: bytes = b""
    ) -> Reply | None:
        try:
            reply = await self._client(method, path, body, headers)
        except NoResponse:
            self._record.statuses[0] += 1
            await asyncio.sleep(_PAUSE)
            return None
        self._record.statuses[reply.status] += 1
        if reply.status >= 500:
            self._record.failures.append((reply.start, self._process, reply.status))
            await asyncio.sleep(_PAUSE)
        return reply


def _encoded(item: dict[str, Any] | None) -> bytes | None:
    """Return the body of a read of the same member."""
    if item is None:
        return None
    return json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()


def _by_name(name: str) -> bytes:
    return b"/members/by-name/" + quote(name).encode()


def _version(reply: Reply) -> int:
    return int(reply.headers[b"etag"].strip(b'"'))
