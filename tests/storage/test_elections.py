"""The terms of MongoDB's elections, from a real replica set of one node."""

from types import SimpleNamespace
from typing import cast

from pymongo.hello import Hello
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TOPOLOGY_TYPE, TopologyDescription

from tests.support.mongodb import Admin
from tornado_members.storage.elections import Elections
from tornado_members.storage.mongo import Mongo


async def test_elections_agree_with_the_primary(mongo: Mongo, admin: Admin) -> None:
    elections = Elections(mongo)
    assert elections.current() == 0  # the driver has not connected yet
    assert elections.has_rivals()
    term = admin.admin.command("replSetGetStatus")["term"]
    assert await elections.acknowledged() == term
    assert elections.current() == term
    assert not elections.has_rivals()


def test_server_that_times_out_leaves_the_rivals_as_they_were() -> None:
    """The driver forgets what a server stated when an operation on it times out."""
    hello = {"ok": 1, "setName": "rs0", "secondary": True, "hosts": ["a:1", "b:1"]}
    stated = ServerDescription(("a", 1), Hello(hello))
    client = SimpleNamespace()
    elections = Elections(cast(Mongo, SimpleNamespace(client=client, database={"leader_locks": 0})))
    for server in (stated, stated.to_unknown()):
        kind = TOPOLOGY_TYPE.ReplicaSetNoPrimary
        client.topology_description = TopologyDescription(
            kind, {server.address: server}, "rs0", None, None, None
        )
        assert elections.has_rivals()
