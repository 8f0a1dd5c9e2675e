"""The first start on a collection that another program wrote."""

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.serving.test_supervisor import change
from tests.support.service import Command, Service
from tests.support.waiting import wait_for
from tornado_members.embedded.private_servers import PrivateServers

Admin = pymongo.MongoClient[dict[str, Any]]
COUNT = 2500  # ten batches
MISSING = {"$or": [{"nameFold": None}, {"searchWords": None}]}


@pytest.fixture
def members(admin: Admin, database_name: str) -> Any:
    """Members of another program, without an index."""
    found = admin[database_name]["members"]
    found.drop_indexes()
    found.insert_many([{"_id": i, "name": f"Foreign {i}"} for i in range(1, COUNT + 1)])
    return found


@pytest.fixture
def command(folder: Path, servers: PrivateServers, database_name: str) -> Command:
    settings = {
        "server": {"port": 0, "processes": 2},
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
    }
    return Command(folder, settings)


def slow_down(admin: Admin, database: str, milliseconds: int) -> None:
    """Let each batch that is filled in from now on take longer."""
    how = {"failCommands": ["update"], "blockConnection": True, "blockTimeMS": milliseconds}
    data = {"appName": "tornado_members", "namespace": f"{database}.members", **how}
    admin.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)


@contextmanager
def slow_updates(admin: Admin, database: str, milliseconds: int) -> Iterator[None]:
    """Let each batch that is filled in take longer."""
    slow_down(admin, database, milliseconds)
    try:
        yield
    finally:
        admin.admin.command("configureFailPoint", "failCommand", mode="off")


def lists(service: Service, query: str) -> tuple[int, Any]:
    return service("GET", f"/members?{query}")


def leader(locks: Any) -> int | None:
    """Return the process id of the worker that fills in."""
    lock = locks.find_one({"_id": "list-preparation"})
    return int(lock["holder"].split(":")[1]) if lock and lock["holder"] else None


def test_first_start_serves_at_once_and_survives_a_kill(
    command: Command, members: Any, admin: Admin, database_name: str
) -> None:
    # Long enough to check all that lists refuse meanwhile, on a machine that is busy, too.
    with slow_updates(admin, database_name, 4000), command.serving() as service:
        for query in ("q=foreign%207", "name_prefix=for", "email=a@b.org"):
            status, problem = lists(service, query)
            assert (status, problem["code"]) == (503, "preparing")
        url = f"{service.url}/members?q=for"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {service._token}"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            assert answer.headers["Retry-After"] == "5"
        # Everything else is served.
        assert len(lists(service, "limit=1000&sort=-name")[1]["items"]) == 1000
        assert lists(service, "name=Foreign%207")[1]["items"][0]["memberId"] == 7
        assert service("GET", "/members/by-name?name=Foreign%207")[1]["memberId"] == 7
        assert service("PATCH", "/members/2400", {"name": "Renamed Before"})[0] == 200
        status, created = service("POST", "/members", {"name": "Created Before"})
        assert (status, created["memberId"]) == (201, COUNT + 1)
        assert service("POST", "/members", {"name": "Foreign 9"})[0] == 409
        progress = f"of {COUNT} members have the fields that filters use"
        wait_for(lambda: progress in service.admin("/readyz")[1])
        assert service.admin("/readyz")[0] == 200
        # One worker dies, another continues, and all are killed when some batches are complete.
        locks = admin[database_name]["leader_locks"]
        wait_for(lambda: leader(locks) is not None)
        first = leader(locks)
        assert first is not None
        assert members.count_documents(MISSING) > COUNT / 2
        slow_down(admin, database_name, 400)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: leader(locks) not in (None, first))
        wait_for(lambda: members.count_documents(MISSING) < COUNT - 1)
        service.stop(signal.SIGKILL)
    left = members.count_documents(MISSING)
    assert 0 < left < COUNT - 1
    members.insert_one({"_id": 9999, "name": "Inserted While Dead"})
    members.update_one({"_id": 3}, {"$set": {"name": "Changed While Dead"}})
    with command.serving() as service:
        wait_for(lambda: lists(service, "q=foreign")[0] == 200)
        wait_for(lambda: "degraded  lists" not in service.admin("/readyz")[1])
        assert members.count_documents(MISSING) == 0
        for words, member_id in (
            ("Renamed Before", 2400),
            ("Created Before", COUNT + 1),
            ("Inserted While Dead", 9999),
            (f"Foreign {COUNT}", COUNT),
        ):
            items = lists(service, f"q={words.replace(' ', '%20')}&limit=1")[1]["items"]
            assert [item["memberId"] for item in items] == [member_id]
    assert members.find_one({"_id": 2400})["version"] == 2


@pytest.mark.exhaustive
def test_reload_waits_for_lists_so_that_none_is_refused(
    command: Command, members: Any, admin: Admin, database_name: str
) -> None:
    with command.serving() as service, slow_updates(admin, database_name, 400):
        wait_for(lambda: lists(service, "q=foreign")[0] == 200)
        change(command, members={"attributes": {"level": {"type": "string", "indexed": True}}})
        members.update_many({}, {"$set": {"attributes": {"level": "gold"}}})
        seen, ended = set[int](), threading.Event()

        def read_lists() -> None:
            while not ended.is_set():
                seen.add(lists(service, "q=foreign&limit=1")[0])
                time.sleep(0.01)

        reading = threading.Thread(target=read_lists)
        reading.start()
        try:
            service.process.send_signal(signal.SIGHUP)
            wait_for(lambda: lists(service, "q=gold&attributes.level=gold")[0] == 200)
            wait_for(lambda: command.log().count(" ready") >= 4)
        finally:
            ended.set()
            reading.join()
    assert seen == {200}
