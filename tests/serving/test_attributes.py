"""Declarations of attributes that change while services run."""

import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from tests.serving.test_supervisor import change, workers
from tests.support.service import Command, Service
from tests.support.waiting import wait_for
from tornado_members.embedded.private_servers import PrivateServers

Admin = pymongo.MongoClient[dict[str, Any]]
# Each declaration has an attribute of its own. `code` and `seen` have other types in the two.
OLD: dict[str, Any] = {
    "score": {"type": "integer", "indexed": True},
    "old": {"type": "string", "indexed": True},
    "code": {"type": "integer"},
    "seen": {"type": "datetime"},
}
NEW: dict[str, Any] = {
    "fresh": {"type": "number"},
    "seen": {"type": "string"},
    "code": {"type": "string"},
    "score": {"type": "integer", "indexed": True},
}
OWN: dict[str, dict[str, Any]] = {"old": {"old": "kept"}, "new": {"fresh": 1.5}}
SHARED: dict[str, Any] = {"code": 5, "seen": "2026-11-22T11:05:42.000Z"}
PATCHED, REPLACED, IDLE = (1, 2), (3, 4), (5,)
PAUSE = 0.05  # seconds, between two requests of a client: without it, they take all processors


@pytest.fixture
def command(folder: Path, servers: PrivateServers, database_name: str) -> Command:
    settings = {
        "server": {"port": 0, "processes": 2, "drain_seconds": 3},
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "members": {"attributes": OLD},
    }
    return Command(folder, settings)


class Witness:
    """Writes scores and reads members; each response must match one of the declarations.

    Each member has one writer, so no read may have a lower score than the last one that was
    acknowledged before it.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopping = threading.Event()
        self.faults: list[str] = []
        self.forms: set[str] = set()
        self.scores = dict.fromkeys((*PATCHED, *REPLACED, *IDLE), 0)

    def form_of(self, member: dict[str, Any], least: int) -> str:
        """Return the declaration that a member matches, after a check of its values."""
        attributes = dict(member["attributes"])
        score = attributes.pop("score")
        shared = SHARED if member["memberId"] in PATCHED else {}
        found = [form for form, own in OWN.items() if attributes == {**shared, **own}]
        if not found or score < least:
            self.faults.append(f"after {least}: {member}")
        self.forms.update(found)
        return found[0] if found else "neither"

    def forms_now(self) -> set[str]:
        """Return the forms in which all members are shown, one by one and in a list."""
        least = dict(self.scores)
        one_by_one = [self._service("GET", f"/members/{number}")[1] for number in self.scores]
        listed = self._service("GET", "/members")[1]["items"]
        return {
            self.form_of(member, least[member["memberId"]]) for member in (*one_by_one, *listed)
        }

    def _patch(self, number: int) -> None:
        while not self._stopping.wait(PAUSE):
            score = self.scores[number] + 1
            patch = {"attributes": {"score": score}}
            status, body = self._service("PATCH", f"/members/{number}", patch)
            if status != 200:
                self.faults.append(f"{status} {body}")
                return
            self.form_of(body, score)
            self.scores[number] = score

    def _replace(self, number: int) -> None:
        """Replace everything that the worker declares; the rest must stay."""
        while not self._stopping.wait(PAUSE):
            score = self.scores[number] + 1
            for own in OWN.values():
                body = {"name": f"Member {number}", "attributes": {"score": score, **own}}
                status, answer = self._service("PUT", f"/members/{number}", body)
                if status == 200:
                    self.form_of(answer, score)
                    self.scores[number] = score
                    break
                if status != 422:
                    self.faults.append(f"{status} {answer}")

    def _read(self) -> None:
        while not self._stopping.is_set():
            for number, least in [*self.scores.items()]:
                time.sleep(PAUSE)
                self.form_of(self._service("GET", f"/members/{number}")[1], least)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Read and write for as long as the block lasts."""
        threads = [threading.Thread(target=self._read) for _ in range(2)]
        threads += [threading.Thread(target=self._patch, args=(number,)) for number in PATCHED]
        threads += [threading.Thread(target=self._replace, args=(number,)) for number in REPLACED]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()


def are_replaced(service: Service, before: set[psutil.Process]) -> bool:
    """Return True if no worker is left of those before."""
    return not before & set(workers(service))


def are_hits(service: Service, number: int) -> bool:
    """Return True if the cache answers reads of this member in each worker."""
    return all(is_hit(service, number) for _ in range(20))


def is_hit(service: Service, number: int) -> bool:
    """Return True if the cache answers a read of this member."""
    headers = {"Authorization": f"Bearer {service._token}"}
    request = urllib.request.Request(f"{service.url}/members/{number}", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return bool(response.headers["Cache-Status"].endswith("; hit"))


def test_reloads_to_another_declaration_and_back_lose_and_misread_nothing(
    command: Command, admin: Admin, database_name: str
) -> None:
    members = admin[database_name]["members"]
    with command.serving() as service:
        for number in (*PATCHED, *REPLACED, *IDLE):
            shared = SHARED if number in PATCHED else {}
            attributes = {**shared, "score": 0, "old": "kept"}
            body = {"name": f"Member {number}", "attributes": attributes}
            assert service("POST", "/members", body)[0] == 201
        members.update_many({}, {"$set": {"attributes.fresh": 1.5}})
        witness = Witness(service)
        wait_for(lambda: are_hits(service, *IDLE))
        with witness.watching():
            for declared, form in ((NEW, "new"), (OLD, "old")):
                before = set(workers(service))
                change(command, members={"attributes": declared})
                service.process.send_signal(signal.SIGHUP)
                wait_for(partial(are_replaced, service, before))
                wait_for(lambda: are_hits(service, *IDLE))
                assert {shape for _ in range(5) for shape in witness.forms_now()} == {form}
        assert not witness.faults, witness.faults[:5]
        assert witness.forms == {"old", "new"}
        assert min(witness.scores[number] for number in (*PATCHED, *REPLACED)) > 5
        assert service.stop() == 0
    log = command.log()
    for name in ("code", "seen"):  # once, although two workers start, and not for the old one
        text = f"attribute {name}: the values of {len(PATCHED)} members contradict its declaration"
        assert log.count(text) == 1
    assert log.count("contradict its declaration") == 2


def test_indexes_follow_the_declaration_and_are_dropped_on_request(
    command: Command, admin: Admin, database_name: str
) -> None:
    def indexes() -> set[str]:
        found = admin[database_name]["members"].index_information()
        return {name for name in found if name.startswith(("attributes", "searched"))}

    score = {"attributes.score_1__id_1", "attributes.score_1_name_1"}
    old = {"attributes.old_1__id_1", "attributes.old_1_name_1", "searchedAttributes_1"}
    admin[database_name]["members"].drop_indexes()  # other tests may have left some
    with command.serving():
        wait_for(lambda: indexes() == score | old)  # a start waits for them for a second only
    change(command, members={"attributes": NEW})
    with command.serving():
        assert indexes() == score | old
    assert command.log().count("start with --drop-unused-indexes") == 1
    with command.serving("--drop-unused-indexes"):
        assert indexes() == score
    change(command, members={"attributes": OLD})
    with command.serving("--drop-unused-indexes"):
        wait_for(lambda: indexes() == score | old)
