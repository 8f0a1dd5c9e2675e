"""Members in MongoDB: a document each, `_id` is the memberId, the name is unique by an index."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from bson import Int64
from pymongo import DESCENDING, IndexModel
from pymongo.errors import DuplicateKeyError

from tornado_members.audit import Actor
from tornado_members.errors import DependencyAway, NameTaken
from tornado_members.list_query import Filters, ListQuery
from tornado_members.member import MAX_MEMBER_ID, Member, MemberDraft
from tornado_members.precondition import NO_CONDITION, SECOND, Precondition
from tornado_members.storage.counters import Counter
from tornado_members.storage.folding import Folding, folded
from tornado_members.storage.indexes import Indexes
from tornado_members.storage.listing import BY_NAME, INDEXES, MemberLists
from tornado_members.storage.mongo import Document, Mongo, reports_outages
from tornado_members.storage.writes import PlainWrites, Writes, is_name_taken
from tornado_members.together import Together

_LAST_VERSION = 2**63 - 1
_NO_LATER = datetime(9999, 1, 1, tzinfo=UTC)


class MemberStore:
    """Every call raises DependencyAway when MongoDB does not answer in time."""

    def __init__(self, mongo: Mongo, writes: Writes | None = None) -> None:
        """`writes` is how changes are made, if not plainly."""
        self.mongo = mongo
        self._members = mongo.database["members"]
        self._writes = writes or PlainWrites(mongo)
        self._ids = Counter(mongo, "memberId")
        self._lists = MemberLists(self._members)
        self._together = Together(self._find_each)

    async def prepare(self) -> None:
        """Make what is missing: indexes, folded names, a counter that is past every id in use.

        On many documents that other programs wrote this takes minutes, and the log says how far it
        is. Raises pymongo.errors.OperationFailure when the members at hand share a name.
        """
        # By itself, so that what is said of names that are shared is said of nothing else.
        indexes = Indexes(self.mongo, "members")
        await indexes.make([IndexModel(BY_NAME, unique=True)])
        await indexes.make(INDEXES)
        await Folding(self.mongo).fill_in()
        await self._raise_ids()

    @reports_outages
    async def _raise_ids(self) -> None:
        last = await self._members.find_one(
            {"_id": {"$lte": MAX_MEMBER_ID}},
            {"_id": 1},
            sort=[("_id", DESCENDING)],
        )
        await self._ids.raise_to(int(last["_id"]) if last else 0)

    async def find_member(self, member_id: int) -> Member | None:
        """The member with this id; all that are looked for in one turn of the loop, at once."""
        began = perf_counter()
        try:
            (found,) = await self._together.ask((member_id,))
        finally:
            self.mongo.operations.tell("MemberStore.find_member", perf_counter() - began)
        if isinstance(found, BaseException):
            raise found
        return found

    async def _find_each(
        self, member_ids: Sequence[int]
    ) -> Sequence[Member | BaseException | None]:
        """What there is to say of each: a document that cannot be read is no other one's fault."""
        try:
            return await self.find_members(member_ids)
        except DependencyAway:
            raise
        except Exception:
            if len(member_ids) == 1:
                raise
        alone = [self.find_members([member_id]) for member_id in member_ids]
        return [
            found if isinstance(found, BaseException) else found[0]
            for found in await asyncio.gather(*alone, return_exceptions=True)
        ]

    @reports_outages
    async def find_members(self, member_ids: Sequence[int]) -> list[Member | None]:
        """The members with these ids, None where there is none."""
        if len(member_ids) == 1:
            return [from_document(await self._members.find_one({"_id": member_ids[0]}))]
        cursor = self._members.find({"_id": {"$in": list(set(member_ids))}})
        members = {doc["_id"]: from_document(doc) for doc in await cursor.to_list(None)}
        return [members.get(member_id) for member_id in member_ids]

    @reports_outages
    async def find_by_name(self, name: str) -> Member | None:
        """The member with exactly this name."""
        return from_document(await self._members.find_one({"name": name}))

    @reports_outages
    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member]:
        """The members with these names."""
        cursor = self._members.find({"name": {"$in": list(names)}})
        members = [_to_member(document) for document in await cursor.to_list(None)]
        return {member.name: member for member in members}

    @reports_outages
    async def page(self, query: ListQuery) -> list[Member]:
        """At most `query.limit` members in order, from behind `query.after` on."""
        return [_to_member(document) for document in await self._lists.page(query)]

    @reports_outages
    async def count(self, filters: Filters) -> int:
        """How many members there are of this kind."""
        return await self._lists.count(filters)

    async def take_ids(self, count: int = 1) -> int:
        """Take so many new ids in a row; returns the first."""
        return await self._ids.take(count)

    @reports_outages
    async def insert(
        self, draft: MemberDraft, member_id: int | None = None, *, by: Actor | None = None
    ) -> Member:
        """Store a new member, under an id that was taken or under a new one.

        Raises NameTaken.
        """
        member = Member.from_draft(member_id or await self._ids.take(), draft)
        try:
            await self._writes.insert(_to_document(member), by)
        except DuplicateKeyError as error:
            raise await self._name_taken(error.details, draft.name) from error
        return member

    @reports_outages
    async def insert_many(
        self, drafts: Sequence[MemberDraft], first: int | None = None, *, by: Actor | None = None
    ) -> list[Member | None]:
        """Store new members under ids in a row, from `first` if they were taken.

        None stands where the name was taken.
        """
        first = first or await self._ids.take(len(drafts))
        members = [Member.from_draft(first + i, draft) for i, draft in enumerate(drafts)]
        refused = await self._writes.insert_many([_to_document(m) for m in members], by)
        return [None if i in refused else member for i, member in enumerate(members)]

    async def replace(
        self,
        member_id: int,
        draft: MemberDraft,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> Member | None:
        """Give the member with this id new contents, if it is as the condition demands.

        None when there is no such member. Raises NameTaken.
        """
        return await self._replace(member_id, _which(member_id, condition), draft, by)

    async def replace_named(
        self,
        member_id: int,
        draft: MemberDraft,
        condition: Precondition = NO_CONDITION,
        *,
        by: Actor | None = None,
    ) -> Member | None:
        """The same, but only if the member bears the draft's name already."""
        which = {**_which(member_id, condition), "name": draft.name}
        return await self._replace(member_id, which, draft, by)

    @reports_outages
    async def delete(
        self, member_id: int, condition: Precondition = NO_CONDITION, *, by: Actor | None = None
    ) -> bool:
        """Remove the member with this id, if it is as demanded; False when there was none such."""
        return await self._writes.delete(member_id, _which(member_id, condition), by)

    @reports_outages
    async def _replace(
        self, member_id: int, which: Mapping[str, Any], draft: MemberDraft, by: Actor | None
    ) -> Member | None:
        try:
            document = await self._writes.update(member_id, which, _replacement(draft), by)
        except DuplicateKeyError as error:
            raise await self._name_taken(error.details, draft.name) from error
        return from_document(document)

    async def _name_taken(self, details: Mapping[str, Any] | None, name: str) -> Exception:
        """What to raise for a duplicate key; the server's own text, with the value, stays here."""
        if not is_name_taken(details or {}):
            return RuntimeError("an id was given out twice: the counter is behind the members")
        owner = await self.find_by_name(name)
        return NameTaken(owner.member_id if owner else None)


def _which(member_id: int, condition: Precondition) -> Document:
    """The filter for a member that is as demanded. The server compares, in the write itself."""
    demands: list[Document] = [{"_id": member_id}]
    if condition.must_not_exist:
        demands.append({"_id": None})
    if condition.one_of is not None:
        demands.append(_version_in(condition.one_of))
    if condition.none_of:
        demands.append({"$nor": [_version_in(condition.none_of)]})
    if condition.unmodified_since is not None and condition.unmodified_since < _NO_LATER:
        before = condition.unmodified_since + SECOND
        undated = {"updatedAt": {"$not": {"$type": "date"}}}
        demands.append({"$or": [undated, {"updatedAt": {"$lt": before}}]})
    return {"$and": demands} if len(demands) > 1 else demands[0]


def _version_in(versions: Collection[int]) -> Document:
    """Another client's document may have none, or nonsense: that counts as the first."""
    named = [Int64(version) for version in versions if version <= _LAST_VERSION]
    if 1 not in versions:
        return {"version": {"$in": named}}
    nonsense: list[Document] = [{"$not": {"$gte": 1}}, {"$gt": _LAST_VERSION}, {"$type": "array"}]
    return {"$or": [{"version": {"$in": named}}, *({"version": one} for one in nonsense)]}


def _replacement(draft: MemberDraft) -> list[Document]:
    """An update that raises the version only if something changes, decided by the server itself.

    Everything a caller wrote is a $literal: a name such as '$email' is text, not a field path.
    """
    fields = {field: {"$literal": value} for field, value in draft.model_dump().items()}
    folds = {field: {"$literal": f} for field, f in folded(draft.name, draft.email).items()}
    unchanged = {"$and": [{"$eq": [f"${field}", value]} for field, value in fields.items()]}
    is_version = {"$and": [{"$isNumber": "$version"}, {"$gte": ["$version", 1]}]}
    whole = {"$convert": {"input": "$version", "to": "long", "onError": Int64(1)}}
    version = {"$cond": [is_version, whole, Int64(1)]}
    return [
        {
            "$set": {
                **fields,
                **folds,
                "version": {"$cond": [unchanged, version, {"$add": [version, Int64(1)]}]},
                "updatedAt": {"$cond": [unchanged, "$updatedAt", "$$NOW"]},
            }
        }
    ]


def _to_document(member: Member) -> Document:
    return {
        "_id": Int64(member.member_id),
        "name": member.name,
        "email": member.email,
        "phone": member.phone,
        **folded(member.name, member.email),
        "version": Int64(member.version),
        "createdAt": member.updated_at,
        "updatedAt": member.updated_at,
    }


def _to_member(document: Mapping[str, Any]) -> Member:
    """Another client's document may lack what is optional; its version then counts as the first."""
    updated_at = document.get("updatedAt")
    return Member(
        member_id=int(document["_id"]),
        name=document["name"],
        email=_text(document.get("email")),
        phone=_text(document.get("phone")),
        version=_to_version(document.get("version")),
        updated_at=updated_at if isinstance(updated_at, datetime) else None,
    )


def _to_version(value: object) -> int:
    """As _version_in has it: what is no number from 1 counts as the first."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1
    return int(value) if 1 <= value <= _LAST_VERSION else 1


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def from_document(document: Mapping[str, Any] | None) -> Member | None:
    """The member in a document; a document without a name holds none."""
    if document is None or not isinstance(document.get("name"), str):
        return None
    return _to_member(document)
