"""The logical time of the replica set, by which reads wait for changes."""

from bson.timestamp import Timestamp

from tornado_members.storage.mongo import Mongo, open_session
from tornado_members.storage.operations import translate_outages


class ClusterTime:
    """The time of the primary. Both methods raise DependencyUnavailable."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo

    @translate_outages
    async def now(self) -> Timestamp | None:
        """Return the time of the primary's last operation; None without a replica set."""
        session = await open_session(self.mongo)
        try:
            await self.mongo.database.command("ping", session=session)
            return session.operation_time
        finally:
            await session.end_session()

    @translate_outages
    async def until_committed(self, time: Timestamp) -> None:
        """Wait until reads of the primary return all operations up to `time`."""
        session = await open_session(self.mongo)
        try:
            session.advance_operation_time(time)
            await self.mongo.database["members"].find_one({"_id": 0}, {"_id": 1}, session=session)
        finally:
            await session.end_session()
