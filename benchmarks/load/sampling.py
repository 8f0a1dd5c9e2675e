"""A caller beside the load, who compares what is answered with what MongoDB has."""

import random
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Self

from benchmarks.load.asking import Asker
from benchmarks.load.bed import Collection, Document
from benchmarks.load.pages import Page
from benchmarks.load.scenarios import BATCH, PAGE, Scenario

PAUSE_SECONDS = 0.02
FIELDS = ("name", "email", "phone")
LOOKUP_PATH = "/members/lookup"


@dataclass(slots=True)
class Sample:
    """The result of comparing answers."""

    compared: int = 0
    stale: int = 0  # older than what had been committed before it was asked for
    wrong: list[str] = field(default_factory=list)  # anything else that MongoDB never had
    hits: int = 0  # by Cache-Status, where there is one
    queries: int = 0  # the comparer's own, of MongoDB


class Sampler:
    """Asks from a thread, for as long as the block lasts."""

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
        self._asker = Asker(port, token)
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
        self._asker.close()

    def _run(self) -> None:
        look = {
            "page": self._look_at_page,
            "unchanged": self._look_for_unchanged,
            "batch": self._look_at_batch,
            "lookup": self._look_at_batch,
        }
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                look.get(self._scenario.asks, self._look_at_member)()
                self.sample.compared += 1
            except (OSError, HTTPException) as error:
                self.sample.wrong.append(f"no answer: {error!r}")

    def _look_at_member(self) -> None:
        member_id = random.randint(1, self._scenario.members)  # noqa: S311
        before = self._find(member_id)
        answer = self._asker.get(f"/members/{member_id}")
        after = self._find(member_id)
        self.sample.hits += "hit" in answer.headers.get("cache-status", "")
        member, said = answer.json, f"{answer.status} {answer.content[:200]!r}"
        if answer.status != 200 or not _is_of(before, member):
            self.sample.wrong.append(
                f"member {member_id}: {answer.status} {answer.content[:200]!r}"
            )
        elif _serial(member) < _serial(before) and member != after:
            self.sample.stale += 1
        elif before == after != member:
            self.sample.wrong.append(f"member {member_id}: {said}, where MongoDB has {after}")

    def _look_at_page(self) -> None:
        index = random.randrange(len(self._pages))  # noqa: S311
        page, path = self._pages[index], self._lines[index]
        self.sample.queries += PAGE  # MongoDB counts documents
        found = self._members.find(page.matching).sort(page.key).limit(PAGE)
        expected = [*map(as_answered, found)]
        answer = self._asker.get(path)
        if answer.status != 200 or answer.json["items"] != expected:
            self.sample.wrong.append(f"{path}: {answer.status} {answer.content[:200]!r}")

    def _look_at_batch(self) -> None:
        member_ids = random.sample(range(1, self._scenario.members + 1), BATCH)
        self.sample.queries += BATCH  # MongoDB counts documents
        found = map(as_answered, self._members.find({"_id": {"$in": member_ids}}))
        stored = {member["memberId"]: member for member in found}
        if self._scenario.asks == "lookup":
            answer = self._asker.post(LOOKUP_PATH, {"memberIds": member_ids})
        else:
            answer = self._asker.get(batch_path(member_ids))
        self.sample.hits += "hit" in answer.headers.get("cache-status", "")
        if answer.status != 200 or answer.json["items"] != [stored[one] for one in member_ids]:
            self.sample.wrong.append(f"batch: {answer.status} {answer.content[:200]!r}")

    def _look_for_unchanged(self) -> None:
        index = random.randrange(self._scenario.members)  # noqa: S311
        answer = self._asker.get(f"/members/{index + 1}", If_None_Match=self._lines[index])
        if answer.status != 304 or answer.content:
            self.sample.wrong.append(f"member {index + 1}: {answer.status} in place of 304")

    def _find(self, member_id: int) -> Document:
        self.sample.queries += 1
        found = self._members.find_one({"_id": member_id})
        assert found, "no member is ever removed here"
        return as_answered(found)


def batch_path(member_ids: Sequence[int]) -> str:
    """Return the address of several members."""
    return f"/members?memberId={','.join(map(str, member_ids))}"


def as_answered(document: Document) -> Document:
    """A member as MongoDB has it, in the form of an answer."""
    return {"memberId": document["_id"], **{name: document[name] for name in FIELDS}}


def _is_of(stored: Document, answered: Any) -> bool:
    """True if it may be this member before or after a write; writes change the phone only."""
    return isinstance(answered, dict) and answered == {**stored, "phone": answered.get("phone")}


def _serial(member: Document) -> int:
    """The number of the write that a member is from: its telephone number ends with it."""
    with suppress(AttributeError, ValueError):
        return int(member["phone"].rpartition("-")[2])
    return -1
