"""A client beside the load, which compares responses with what MongoDB has."""

import random
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Self

from benchmarks.load.bed import Collection, Document
from benchmarks.load.blocking_client import BlockingClient
from benchmarks.load.pages import Page
from benchmarks.load.scenarios import BATCH, PAGE, Scenario

PAUSE_SECONDS = 0.02
FIELDS = ("name", "email", "phone")
LOOKUP_PATH = "/members/lookup"


@dataclass(slots=True)
class Sample:
    """The result of comparing responses."""

    compared: int = 0
    stale: int = 0  # older than what had been committed before the request
    wrong: list[str] = field(default_factory=list)  # anything else that MongoDB never had
    hits: int = 0  # by Cache-Status, where a contestant sends it
    queries: int = 0  # documents that MongoDB returned to the sampler


class Sampler:
    """Sends requests from a thread until the end of the block."""

    def __init__(
        self,
        scenario: Scenario,
        port: int,
        token: str,
        members: Collection,
        *,
        lines: Sequence[str] = (),
        pages: Sequence[Page] = (),
    ) -> None:
        """`lines` are ETags, or the paths of `pages`, if the scenario needs them."""
        self.sample = Sample()
        self._scenario = scenario
        self._client = BlockingClient(port, token)
        self._members = members
        self._lines = lines
        self._pages = pages
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        compare = {
            "page": self._compare_page,
            "unchanged": self._compare_unchanged,
            "batch": self._compare_batch,
            "lookup": self._compare_batch,
        }.get(self._scenario.kind, self._compare_member)
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                compare()
                self.sample.compared += 1
            except (OSError, HTTPException) as error:
                self.sample.wrong.append(f"no response: {error!r}")

    def _compare_member(self) -> None:
        member_id = random.randint(1, self._scenario.members)
        before = self._find(member_id)
        response = self._client.get(f"/members/{member_id}")
        after = self._find(member_id)
        self.sample.hits += "hit" in response.headers.get("cache-status", "")
        member, received = response.json, f"{response.status} {response.content[:200]!r}"
        if response.status != 200 or not _is_of(before, member):
            self.sample.wrong.append(f"member {member_id}: {received}")
        elif _serial(member) < _serial(before) and member != after:
            self.sample.stale += 1
        elif before == after != member:
            self.sample.wrong.append(f"member {member_id}: {received}, where MongoDB has {after}")

    def _compare_page(self) -> None:
        index = random.randrange(len(self._pages))
        page, path = self._pages[index], self._lines[index]
        self.sample.queries += PAGE  # MongoDB counts documents
        found = self._members.find(page.matching).sort(page.key).limit(PAGE)
        expected = [*map(to_member, found)]
        response = self._client.get(path)
        if response.status != 200 or response.json["items"] != expected:
            self.sample.wrong.append(f"{path}: {response.status} {response.content[:200]!r}")

    def _compare_batch(self) -> None:
        member_ids = random.sample(range(1, self._scenario.members + 1), BATCH)
        self.sample.queries += BATCH  # MongoDB counts documents
        found = map(to_member, self._members.find({"_id": {"$in": member_ids}}))
        stored = {member["memberId"]: member for member in found}
        if self._scenario.kind == "lookup":
            response = self._client.post(LOOKUP_PATH, {"memberIds": member_ids})
        else:
            response = self._client.get(batch_path(member_ids))
        self.sample.hits += "hit" in response.headers.get("cache-status", "")
        if response.status != 200 or response.json["items"] != [
            stored[member_id] for member_id in member_ids
        ]:
            self.sample.wrong.append(f"batch: {response.status} {response.content[:200]!r}")

    def _compare_unchanged(self) -> None:
        index = random.randrange(self._scenario.members)
        response = self._client.get(f"/members/{index + 1}", If_None_Match=self._lines[index])
        if response.status != 304 or response.content:
            self.sample.wrong.append(f"member {index + 1}: {response.status} instead of 304")

    def _find(self, member_id: int) -> Document:
        self.sample.queries += 1
        found = self._members.find_one({"_id": member_id})
        assert found, "a member was removed, which no scenario does"
        return to_member(found)


def batch_path(member_ids: Sequence[int]) -> str:
    """Return the address of several members."""
    return f"/members?memberId={','.join(map(str, member_ids))}"


def to_member(document: Document) -> Document:
    """Return the member of a document, as responses contain it."""
    return {"memberId": document["_id"], **{name: document[name] for name in FIELDS}}


def _is_of(stored: Document, received: Any) -> bool:
    """True if `received` is this member, apart from the telephone number, which writes change."""
    return isinstance(received, dict) and received == {**stored, "phone": received.get("phone")}


def _serial(member: Document) -> int:
    """Return the number of the member's last write, with which its telephone number ends."""
    with suppress(AttributeError, ValueError):
        return int(member["phone"].rpartition("-")[2])
    return -1
