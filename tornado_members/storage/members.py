"""The collection `members`: one document per member. Its `_id` is the memberId."""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from bson import Decimal128
from pymongo import DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from tornado_members.errors import NameTaken
from tornado_members.in_turns import map_in_turns
from tornado_members.lease_cache.coalescing import Batcher
from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Actor
from tornado_members.model.list_query import Filters, ListQuery, MemberPage
from tornado_members.model.member import MEMBER_FIELDS, Member, MemberDraft, current_time
from tornado_members.model.precondition import NO_CONDITION, Precondition
from tornado_members.storage.conditions import filter_for
from tornado_members.storage.counters import Counter
from tornado_members.storage.documents import (
    MEMBER_ID_RANGE,
    MemberCodec,
    indexed_names,
    most_per_reply,
)
from tornado_members.storage.indexes import Indexes
from tornado_members.storage.list_indexes import BY_NAME, OF_ATTRIBUTES, list_indexes
from tornado_members.storage.list_readiness import ListReadiness
from tornado_members.storage.listing import MemberLists
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.operations import translate_outages
from tornado_members.storage.page_groups import PageGroups
from tornado_members.storage.page_json import PageEncoder
from tornado_members.storage.writes import PlainWrites, Writes, is_id_taken


class IdTaken(Exception):
    """Another program's document has the reserved id. The counter is past it now."""


class MemberStore:
    """Reads and writes members.

    All methods raise DependencyUnavailable if MongoDB does not respond in time.
    """

    def __init__(
        self,
        mongo: Mongo,
        writes: Writes | None = None,
        fields: FieldTable = MEMBER_FIELDS,
        readiness: ListReadiness | None = None,
    ) -> None:
        """`writes` makes the changes; the default records nothing of them.

        `readiness` is that of lists, which are prepared already by default.
        """
        self.mongo = mongo
        self.fields = fields
        self._codec = MemberCodec(fields)
        self._members = mongo.database["members"]
        self._writes = writes or PlainWrites(mongo)
        self._ids = Counter(mongo, "memberId")
        self._lists = MemberLists(mongo, fields, readiness or ListReadiness())
        self._page_encoder = PageEncoder(self._codec)
        self.page_groups = PageGroups(mongo, fields)
        self._batcher = Batcher(self.find_members)

    async def prepare(self) -> None:
        """Create the index of names, and raise the counter past all ids: writes need both.

        Raises pymongo.errors.OperationFailure if two documents have the same name. Lists are
        prepared apart (`list_preparation.py`), because that takes longer.
        """
        await Indexes(self.mongo, "members").create([IndexModel(BY_NAME, unique=True)])
        await self._raise_ids()

    async def drop_unused_indexes(self, *, dry_run: bool = False) -> None:
        """Drop the indexes of attributes that are not declared as indexed; log each.

        With `dry_run`, only log that there are some.
        """
        wanted = list_indexes(self.fields)
        await Indexes(self.mongo, "members").drop_unused(wanted, OF_ATTRIBUTES, dry_run=dry_run)

    @translate_outages
    async def _raise_ids(self) -> None:
        # Not only members: to MongoDB, an id is a duplicate of an equal number of any type.
        last = await self._members.find_one(
            {"_id": MEMBER_ID_RANGE}, {"_id": 1}, sort=[("_id", DESCENDING)]
        )
        number = last["_id"] if last else 0
        whole = number.to_decimal() if isinstance(number, Decimal128) else number
        await self._ids.raise_to(int(whole))

    async def find_member(self, member_id: int) -> Member | None:
        """Return the member with this id. Look-ups of one turn of the event loop share a query."""
        began = perf_counter()
        try:
            (found,) = await self.find_many((member_id,))
        finally:
            self.mongo.operations.notify("MemberStore.find_member", perf_counter() - began)
        return found

    async def find_many(self, member_ids: Sequence[int]) -> Sequence[Member | None]:
        """Return a member for each id. Look-ups of one turn of the event loop share a query."""
        return await self._batcher.submit(member_ids)

    @translate_outages
    async def find_members(self, member_ids: Sequence[int]) -> list[Member | None]:
        """Return a member for each id; None if no member has it."""
        if len(member_ids) == 1:
            return [self._codec.decode(await self._members.find_one({"_id": member_ids[0]}))]
        matching = {"_id": {"$in": list(set(member_ids))}}
        cursor = self._members.find(matching, batch_size=most_per_reply(self.fields))
        members = await map_in_turns(self._codec.decode, await cursor.to_list(None))
        found = {member.member_id: member for member in members if member is not None}
        return [found.get(member_id) for member_id in member_ids]

    @translate_outages
    async def find_by_name(self, name: str) -> Member | None:
        """Return the member with exactly this name."""
        return self._codec.decode(await self._members.find_one({"name": name}))

    @translate_outages
    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member | None]:
        """Return, by name, the members that have one of these names.

        None stands for a document that is not a member and holds the name.
        """
        found: dict[str, Member | None] = {}
        cursor = self._members.find({"name": {"$in": list(names)}})
        for document in await cursor.to_list(None):
            found.update(dict.fromkeys(indexed_names(document), self._codec.decode(document)))
        return {name: found[name] for name in names if name in found}

    @translate_outages
    async def page(self, query: ListQuery) -> list[Member]:
        """Return at most `query.limit` members in order, beginning after `query.after`."""
        members = await map_in_turns(self._codec.decode, await self._lists.page(query))
        return [member for member in members if member is not None]

    @translate_outages
    async def page_json(self, query: ListQuery) -> MemberPage:
        """Return the same page as JSON, without making a Member of each document."""
        return await self._page_encoder.read(self._lists, query, separator=b",")

    @translate_outages
    async def page_lines(self, query: ListQuery) -> MemberPage:
        """Return the same page as lines of JSON."""
        return await self._page_encoder.read(self._lists, query, separator=b"\n")

    @translate_outages
    async def count(self, filters: Filters) -> int:
        """Count the members that match."""
        return await self._lists.count(filters)

    async def take_ids(self, count: int = 1) -> int:
        """Reserve `count` consecutive ids; return the first."""
        return await self._ids.take(count)

    @translate_outages
    async def insert(
        self, draft: MemberDraft, member_id: int | None = None, *, by: Actor | None = None
    ) -> Member:
        """Create a member, with a reserved id or a new one. Raises NameTaken, IdTaken."""
        member = Member.from_draft(member_id or await self._ids.take(), draft)
        try:
            await self._writes.insert(self._codec.encode(member), by)
        except DuplicateKeyError as error:
            if is_id_taken(error.details or {}):
                await self._raise_ids()
                raise IdTaken from error
            raise await self._name_taken(draft.name) from error
        return member

    @translate_outages
    async def insert_many(
        self, drafts: Sequence[MemberDraft], first: int | None = None, *, by: Actor | None = None
    ) -> list[Member | None]:
        """Create members with consecutive ids, from `first` if they are reserved.

        None stands for a draft whose name is taken, or whose id is another program's document.
        """
        first = first or await self._ids.take(len(drafts))
        now = current_time()
        members = [Member.from_draft(first + i, draft, now) for i, draft in enumerate(drafts)]
        names, ids = await self._writes.insert_many([self._codec.encode(m) for m in members], by)
        if ids:
            await self._raise_ids()
        return [None if i in names | ids else member for i, member in enumerate(members)]

    async def replace(
        self,
        member_id: int,
        draft: MemberDraft,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> Member | None:
        """Replace the fields of the member with this id if it meets the condition.

        None if no such member exists. Raises NameTaken.
        """
        return await self._replace(member_id, filter_for(member_id, condition), draft, by)

    async def replace_named(
        self,
        member_id: int,
        draft: MemberDraft,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> Member | None:
        """The same, but only if the member has the draft's name already."""
        matching = filter_for(member_id, condition, name=draft.name)
        return await self._replace(member_id, matching, draft, by)

    @translate_outages
    async def delete(
        self, member_id: int, condition: Precondition = NO_CONDITION, *, by: Actor | None = None
    ) -> bool:
        """Delete the member with this id if it meets the condition. False if none does."""
        return await self._writes.delete(member_id, filter_for(member_id, condition), by)

    @translate_outages
    async def _replace(
        self, member_id: int, matching: Mapping[str, Any], draft: MemberDraft, by: Actor | None
    ) -> Member | None:
        try:
            document = await self._writes.update(member_id, matching, self._codec.update(draft), by)
        except DuplicateKeyError as error:
            raise await self._name_taken(draft.name) from error
        return self._codec.decode(document)

    async def _name_taken(self, name: str) -> NameTaken:
        """Return what to raise for a duplicate name. MongoDB's message would contain the name."""
        holder = await self._members.find_one({"name": name})
        if holder is None:  # gone or renamed since
            return NameTaken(None)
        member = self._codec.decode(holder)
        return NameTaken(member.member_id) if member else NameTaken(None, by_member=False)
