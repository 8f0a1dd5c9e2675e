"""A counter in MongoDB, from which ids are reserved."""

from bson import Int64
from pymongo import ReturnDocument

from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.operations import translate_outages


class Counter:
    """A document of the collection `counters`: the last number that was reserved.

    A number is never reserved twice. A writer that dies before it uses its number leaves a gap.
    """

    def __init__(self, mongo: Mongo, name: str) -> None:
        self.mongo = mongo
        self._counters = mongo.database["counters"]
        self._name = name

    @translate_outages
    async def take(self, count: int = 1) -> int:
        """Reserve `count` consecutive numbers; return the first.

        Raises OverflowError if no numbers are left.
        """
        document = await self._counters.find_one_and_update(
            {"_id": self._name},
            {"$inc": {"value": Int64(count)}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise LookupError(f"the counter {self._name} was neither found nor created")
        last = int(document["value"])
        if last > MAX_MEMBER_ID:
            raise OverflowError(f"the counter {self._name} has no numbers left")
        return last - count + 1

    @translate_outages
    async def raise_to(self, number: int) -> None:
        """Raise the counter, so that numbers up to this one are not reserved.

        A restored counter may be behind, and another program may have stored another type.
        """
        stored = {"input": "$value", "to": "long", "onError": Int64(0), "onNull": Int64(0)}
        raised = {"$max": [{"$convert": stored}, Int64(number)]}
        await self._counters.update_one(
            {"_id": self._name}, [{"$set": {"value": raised}}], upsert=True
        )
