"""The terms of MongoDB's elections, from a real replica set of one node."""

from tests.support.mongodb import Admin
from tornado_members.storage.elections import Elections
from tornado_members.storage.mongo import Mongo


async def test_elections_agree_with_the_primary(mongo: Mongo, admin: Admin) -> None:
    elections = Elections(mongo)
    assert elections.current() == 0  # the driver has not connected yet
    term = admin.admin.command("replSetGetStatus")["term"]
    assert await elections.acknowledged() == term
    assert elections.current() == term
