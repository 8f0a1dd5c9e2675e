"""Members and their documents: the only module that defines the stored form of a member.

A document of the collection `members` is a member if its `_id` is a whole number that a member can
have and its `name` is a string. Other programs may store anything else there; such a document is
not found, listed, changed or deleted. Its name stays taken, because the unique index knows it.

The same rules exist twice: in Python for documents that were read, and as MongoDB expressions for
the writes, in which the server decides. `tests/handlers/test_foreign_documents.py` compares them.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final

from bson import Decimal128, Int64

from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import (
    MAX_MEMBER_ID,
    MEMBER_FIELDS,
    Member,
    MemberDraft,
    encode_member,
)
from tornado_members.model.words import search_words
from tornado_members.storage.attribute_values import AttributeCodec
from tornado_members.storage.mongo import Document

LAST_VERSION: Final = 2**63 - 1
WORDS: Final = "searchWords"  # the field of the words by which the search `q` finds a member
# The field with a digest of the attributes whose words are among them, if any are searched.
SEARCHED_BY: Final = "searchedAttributes"

# A filter for lists and scans: it uses indexes. $bitsAllClear of no bits is true of whole numbers.
MEMBER_ID_RANGE: Final[Document] = {"$gte": 1, "$lte": MAX_MEMBER_ID}
MEMBERS_ONLY: Final[Document] = {
    "_id": {**MEMBER_ID_RANGE, "$bitsAllClear": 0, "$not": {"$type": "decimal"}},
    "name": {"$gte": "", "$not": {"$type": "array"}},
}
# The same as an expression, beside a filter for one `_id`. Expressions see a list as a list, where
# a filter would look at its items.
IS_MEMBER: Final[Document] = {
    "$and": [
        {"$in": [{"$type": "$_id"}, ["int", "long", "double"]]},
        {"$eq": [{"$type": "$name"}, "string"]},
    ]
}
# The version of a document, as `to_version` reads it.
VERSION: Final[Document] = {
    "$cond": [
        {"$and": [{"$isNumber": "$version"}, {"$gte": ["$version", 1]}]},
        {"$convert": {"input": "$version", "to": "long", "onError": Int64(1)}},
        Int64(1),
    ]
}
# Raises an error where it is evaluated. A constant would raise it for every document.
_ERROR: Final[Document] = {"$toLong": {"$concat": ["not as it was read: ", {"$toString": "$_id"}]}}


def is_member(document: Mapping[str, Any]) -> bool:
    """True if the document is a member."""
    return to_member_id(document["_id"]) is not None and isinstance(document.get("name"), str)


def to_member_id(value: object) -> int | None:
    """Return the memberId of an `_id`; None if no member can have it.

    Some shells write 5.0 for 5, and to MongoDB they are equal.
    """
    if value.__class__ is Int64 and 1 <= value <= MAX_MEMBER_ID:  # the usual case, in fewer steps
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 1 <= value <= MAX_MEMBER_ID and value == value // 1 else None


def to_version(value: object) -> int:
    """Return the version of a document: its `version` from 1 without a fraction, or else 1.

    `VERSION` is the same for the server.
    """
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
        return 1
    if isinstance(number, Decimal) and not number.is_finite():
        return 1
    return int(number) if 1 <= number <= LAST_VERSION else 1


def indexed_names(document: Mapping[str, Any]) -> list[str]:
    """Return the names of a document in the unique index, member or not."""
    name = document.get("name")
    names = name if isinstance(name, list) else [name]
    return [name for name in names if isinstance(name, str)]


def version_in(versions: Collection[int]) -> Document:
    """Return an expression that is true if the document's version is one of these."""
    return {"$in": [VERSION, [Int64(number) for number in versions if number <= LAST_VERSION]]}


def most_per_reply(fields: FieldTable) -> int:
    """Return the number of documents for a reply of MongoDB; 0 leaves it to MongoDB.

    Decoding a reply keeps Python's lock. For a thousand documents with large attributes, the event
    loop would wait for tens of milliseconds.
    """
    return 200 if fields.attributes else 0


class MemberCodec:
    """Turns members into documents and back, by the table of their fields."""

    def __init__(self, fields: FieldTable = MEMBER_FIELDS) -> None:
        self.fields = fields
        self._names = fields.names
        self._folded = [(field.folded_name, field.name, field.fold) for field in fields.case_folded]
        self._searched = [field.name for field in fields.searched]
        self._attributes = AttributeCodec(fields.attributes) if fields.attributes else None
        searched = "\n".join(fields.attributes.searched)
        # A digest of the attributes that are searched; None if there are none.
        self.searched_by = (
            blake2b(searched.encode(), digest_size=4).hexdigest() if searched else None
        )

    def decode(self, document: Mapping[str, Any] | None) -> Member | None:
        """Return the member of a document; None without a document, or if it is not a member.

        Fields of other programs may be absent or of other types. Such a field counts as null.
        """
        if document is None or not is_member(document):
            return None
        get = document.get
        updated_at = get("updatedAt")
        values: dict[str, Any] = {
            name: value if isinstance(value := get(name), str) else None for name in self._names
        }
        if self._attributes is not None:
            values[ATTRIBUTES] = self._attributes.decode(get(ATTRIBUTES))
        return Member(
            member_id=int(document["_id"]),
            values=values,
            version=to_version(get("version")),
            updated_at=updated_at if isinstance(updated_at, datetime) else None,
        )

    def to_json(self, document: Mapping[str, Any]) -> bytes:
        """Return the JSON of the member that a document is, without making a Member.

        The bytes are those of decode(document).to_json().
        """
        get = document.get
        fields: dict[str, Any] = {"memberId": int(document["_id"])}
        for name in self._names:
            value = get(name)
            fields[name] = value if isinstance(value, str) else None
        if self._attributes is not None:
            fields[ATTRIBUTES] = self._attributes.decode(get(ATTRIBUTES))
        return encode_member(fields)

    def encode(self, member: Member) -> Document:
        """Return the document of a new member."""
        values = member.values
        if self._attributes is not None:
            values = {**values, ATTRIBUTES: self._attributes.encode(values[ATTRIBUTES])}
        return {
            "_id": Int64(member.member_id),
            **values,
            **self.derived(values),
            "version": Int64(member.version),
            "createdAt": member.updated_at,
            "updatedAt": member.updated_at,
        }

    def derived(self, values: Mapping[str, Any]) -> Document:
        """Return the fields by which lists find members: case-folded copies, and words."""
        folded = {
            copy: None if (value := values[name]) is None else fold(value)
            for copy, name, fold in self._folded
        }
        texts = [text for name in self._searched if (text := values[name]) is not None]
        if self.searched_by is not None:
            texts += self.fields.attributes.searched_texts(values[ATTRIBUTES])
        # An index does not distinguish an empty list from a missing one.
        found = {**folded, WORDS: search_words(texts) or [""]}
        return found if self.searched_by is None else {**found, SEARCHED_BY: self.searched_by}

    def attributes_of(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the attributes in a document; none if none are declared."""
        return self._attributes.decode(document.get(ATTRIBUTES)) if self._attributes else {}

    def replacement(
        self, draft: MemberDraft, version: int, is_as_read: Document, *, changes: bool
    ) -> list[Document]:
        """Return an update that replaces all fields of a member with this version.

        It raises the version if the draft `changes` a field. It raises an error unless the
        expression `is_as_read` is true of the document, so it never inserts one. It does not
        consider attributes.
        """
        values: Document = {name: {"$literal": draft.values[name]} for name in self._names}
        derived = {key: {"$literal": value} for key, value in self.derived(draft.values).items()}
        forgotten = {} if SEARCHED_BY in derived else {SEARCHED_BY: "$$REMOVE"}
        if changes:
            changed = {"version": Int64(version + 1), "updatedAt": "$$NOW"}
        else:
            same = [{"$eq": [f"${name}", value]} for name, value in values.items()]
            is_as_read, changed = {"$and": [is_as_read, *same]}, {"version": Int64(version)}
        changed["version"] = {"$cond": [is_as_read, changed["version"], _ERROR]}
        return [{"$set": {**values, **forgotten, **derived, **changed}}]

    def update(self, draft: MemberDraft) -> list[Document]:
        """Return an update that raises the version only if it changes something.

        The server decides this. All that a client sent is a $literal: a name such as '$email' is
        text, not a path. Fields that are not in the table stay as they are.
        """
        values: Document = {name: {"$literal": draft.values[name]} for name in self._names}
        derived = self.derived(draft.values).items()
        same = [{"$eq": [f"${name}", value]} for name, value in values.items()]
        if self._attributes is not None:
            changed = self._attributes.changes(draft.values[ATTRIBUTES], draft.kept_attributes)
            same += self._attributes.unchanged(changed)
            values[ATTRIBUTES] = self._attributes.update(changed)
        unchanged = {"$and": same}
        # A service that searches no attributes leaves it to others to add the words of theirs.
        forgotten = {SEARCHED_BY: "$$REMOVE"} if self.searched_by is None else {}
        return [
            {
                "$set": {
                    **values,
                    **forgotten,
                    **{name: {"$literal": value} for name, value in derived},
                    "version": {"$cond": [unchanged, VERSION, {"$add": [VERSION, Int64(1)]}]},
                    "updatedAt": {"$cond": [unchanged, "$updatedAt", "$$NOW"]},
                }
            }
        ]
