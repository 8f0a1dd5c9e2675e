"""A MongoDB that cannot write ends itself, which is an outage. Acknowledged writes survive."""

import resource
from pathlib import Path
from typing import Literal

import pytest

from tests.support.members import make_draft
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import open_mongo


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_acknowledged_writes_survive_a_full_disk(folder: Path) -> None:
    """None of its files may grow any more, as on a full disk: it cannot write at all."""
    with PrivateServers(folder, memcached=False, die_with_parent=True) as own:
        drivers: list[Literal["motor", "pymongo"]] = ["motor", "pymongo"]
        mongos = [open_mongo(own.mongodb_uri, "test", driver, timeout=1) for driver in drivers]
        stores = [MemberStore(mongo) for mongo in mongos]
        await stores[0].prepare()
        ada = await stores[0].insert(make_draft(name="Ada"))
        (mongod,) = own.processes()
        resource.prlimit(mongod.pid, resource.RLIMIT_FSIZE, (1, 1))
        for store in stores:
            with pytest.raises(DependencyUnavailable):
                await store.insert(make_draft(name="Grace"))
        mongod.wait(10)
        own.restart_dead()
        for store in stores:
            assert await store.find_member(ada.member_id) == ada
        # Certainly not written; the name is free, and no id is used twice.
        grace = await stores[0].insert(make_draft(name="Grace"))
        assert grace.member_id > ada.member_id
        for mongo in mongos:
            await mongo.close()
