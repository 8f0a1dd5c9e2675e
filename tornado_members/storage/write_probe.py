"""A small write that shows whether MongoDB accepts writes."""

from tornado_members.storage.mongo import Mongo
from tornado_members.storage.outages import translate_outages

_SECONDS = 1.0  # between two changes of the document, by all processes together


class WriteProbe:
    """Writes the time to a document of the collection `leader_locks`.

    A command that reads, such as `hello`, does not show that a disk is full, that an operator has
    locked the server, or that the service's user may not write.
    """

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._documents = mongo.database["leader_locks"]

    @translate_outages
    async def write(self) -> None:
        """Return once a majority has the document.

        Nothing changes if another process has written it within the last second: many processes
        would conflict. MongoDB checks locks, permissions and its own role also for such a command.

        Raises DependencyUnavailable and the driver's exceptions.
        """
        earlier = {"$subtract": ["$$NOW", round(_SECONDS * 1000)]}
        is_due = {"$lt": ["$writtenAt", earlier]}  # also if there is none yet
        time = {"$cond": [is_due, "$$NOW", "$writtenAt"]}
        await self._documents.update_one(
            {"_id": "write-probe"}, [{"$set": {"writtenAt": time}}], upsert=True
        )
