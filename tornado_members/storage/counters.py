"""Ids from a counter in the database: given once, and never again."""

from bson import Int64
from pymongo import ReturnDocument

from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.outages import translate_outages


class Counter:
    """A document of the collection `counters`: the last number that was given out.

    A number is gone as soon as it has been taken: a writer that dies before it uses its number
    leaves a gap, never a second owner.
    """

    def __init__(self, mongo: Mongo, name: str) -> None:
        self.mongo = mongo
        self._counters = mongo.database["counters"]
        self._name = name

    @translate_outages
    async def take(self, count: int = 1) -> int:
        """Take `count` numbers in a row; returns the first.

        Raises OverflowError when they are used up.
        """
        document = await self._counters.find_one_and_update(
            {"_id": self._name},
            {"$inc": {"value": Int64(count)}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise LookupError(f"the counter {self._name} was neither found nor made")
        last = int(document["value"])
        if last > MAX_MEMBER_ID:
            raise OverflowError(f"the counter {self._name} is used up")
        return last - count + 1

    @translate_outages
    async def raise_to(self, number: int) -> None:
        """Never give out `number` or anything below it, for instance after a partial restore."""
        await self._counters.update_one(
            {"_id": self._name}, {"$max": {"value": Int64(number)}}, upsert=True
        )
