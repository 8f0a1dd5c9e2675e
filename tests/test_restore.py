"""A database that was restored to an earlier time, after the steps of docs/operations.md.

The members are from the earlier time, while caches, clients and bookmarks know a later one.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from tests.support.members import make_draft
from tests.support.memcached import flush_cache
from tests.support.mongodb import Admin
from tests.support.namespace import namespace_of
from tests.support.service import ROOT
from tornado_members.directory import MemberDirectory
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.member_entries import Representation
from tornado_members.services import open_directory
from tornado_members.settings import Settings
from tornado_members.storage.stores import open_stores
from tornado_members.storage.users import UserStore

ADA, BOB, EVE = make_draft(name="Ada"), make_draft(name="Bob"), make_draft(name="Eve")
LATER = make_draft(name="Ada", phone="555-0100")

COLLECTIONS = ("members", "counters", "users")


def documented_steps() -> list[dict[str, Any]]:
    """Return the commands between the restore and the start. Input of mongosh is also YAML."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.split("\n## Backup and restore\n")[1].split("\n## ")[0]
    return [
        yaml.safe_load(command)
        for command in re.findall(r"^db\.runCommand\((.*)\)$", section, re.MULTILINE)
    ]


@pytest.fixture
def serving(settings: Settings, servers: PrivateServers, admin: Admin) -> Any:
    """A service without HTTP, until it is stopped; its node has been in use for a while."""
    (node,) = servers.cache_servers

    @asynccontextmanager
    async def serving(*, fresh_cache: bool) -> AsyncIterator[tuple[MemberDirectory, UserStore]]:
        if fresh_cache:
            flush_cache(node, namespace_of(admin[settings.mongodb.database]))
        async with (
            open_stores(settings, servers.mongodb_uri) as stores,
            open_directory(settings, stores, servers.cache_servers) as directory,
        ):
            yield directory, stores.users

    return serving


async def read(directory: MemberDirectory, member_id: int) -> Representation:
    """Read from MongoDB first, then from the cache if necessary."""
    for _ in range(100):
        found = await directory.get(member_id)
        if found.cache_status == "hit":
            return found
    raise AssertionError(f"it was never a hit, but {found.cache_status}")


@pytest.mark.parametrize("as_documented", [True, False])
async def test_restore_serves_nothing_from_after_the_backup(
    serving: Any, admin: Admin, database_name: str, as_documented: bool
) -> None:
    """The steps are necessary: without them, each of these assertions fails."""
    database = admin[database_name]
    async with serving(fresh_cache=True) as (directory, users):
        await users.add("ada", "hash", 3)
        await directory.create(ADA)
        backup = {name: list(database[name].find()) for name in COLLECTIONS}
        later = await directory.replace(1, LATER)
        await read(directory, 1)
        bob = await directory.create(BOB)
        await users.set_password("ada", "another")
    for name, documents in backup.items():
        database[name].delete_many({})
        database[name].insert_many(documents)
    steps = documented_steps() if as_documented else []
    for step in steps:
        assert database.command(step)["ok"] == 1
    async with serving(fresh_cache=as_documented) as (directory, users):
        restored = await read(directory, 1)
        changed = await directory.replace(1, make_draft(name="Ada", phone="555-0199"))
        eve = await directory.create(EVE)
        ada = (await users.find_revoked(60))["ada"]
    assert (b"555-0100" not in restored.body) is as_documented  # not the entry of the cache
    assert (changed.version != later.version) is as_documented  # an ETag has one meaning
    assert (eve.member_id != bob.member_id) is as_documented  # and so does an id
    assert (ada.generation > 2) is as_documented  # and a token of the later time is revoked
    assert len(steps) == (4 if as_documented else 0)
