"""Small commands that show whether MongoDB responds, and whether it accepts writes."""

from tornado_members.storage.mongo import Mongo
from tornado_members.storage.operations import translate_outages

_SECONDS = 1.0  # between two changes of the document, by all processes together


class MongoProbe:
    """The commands. Both raise DependencyUnavailable and the driver's exceptions."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._documents = mongo.database["leader_locks"]

    @translate_outages
    async def ping(self) -> None:
        """Await a reply of the primary."""
        await self.mongo.database.command("ping")

    @translate_outages
    async def write(self) -> None:
        """Write the time to a document of the collection `leader_locks`, for a majority.

        A command that reads does not show that a disk is full, that an operator has locked the
        server, or that the service's user may not write.

        Nothing changes if another process has written it within the last second: many processes
        would conflict. MongoDB checks locks, permissions and its own role also for such a command.
        """
        earlier = {"$subtract": ["$$NOW", round(_SECONDS * 1000)]}
        is_due = {"$lt": ["$writtenAt", earlier]}  # also if there is none yet
        time = {"$cond": [is_due, "$$NOW", "$writtenAt"]}
        await self._documents.update_one(
            {"_id": "write-probe"}, [{"$set": {"writtenAt": time}}], upsert=True
        )
