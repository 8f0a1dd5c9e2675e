"""Encodes the documents of a page as JSON.

Documents that the service has written have one form: the id, and the fields in the order of their
table. A page of such documents is encoded as a whole, which takes half the time of encoding each of
them.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

import orjson
from bson import Int64

from tornado_members.in_turns import map_in_turns
from tornado_members.model.list_query import ListQuery, MemberPage
from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.storage.documents import MemberCodec, is_member
from tornado_members.storage.listing import MemberLists
from tornado_members.storage.mongo import Document

_IDS: Final = frozenset({Int64, int})
_TEXTS: Final = frozenset({str, type(None)})
# A quotation mark within a string is escaped. So these bytes never occur in one, and the first ones
# can only be the beginning of a document.
_STORED: Final = b'{"_id":'
_SHOWN: Final = b'{"memberId":'


class PageEncoder:
    """Reads pages of documents, and encodes each as the JSON of its member."""

    def __init__(self, codec: MemberCodec) -> None:
        self._codec = codec
        self._form = {("_id", *codec.fields.names)}
        self._has_form = not codec.fields.attributes

    async def read(self, lists: MemberLists, query: ListQuery, *, separator: bytes) -> MemberPage:
        """Return the members of a page with the separator between two of them."""
        found = await lists.page(replace(query, limit=query.limit + 1))
        return await self.encode(query, found, separator)

    async def encode(
        self, query: ListQuery, found: Sequence[Document], separator: bytes
    ) -> MemberPage:
        """Return the members among the documents of a page.

        One document more than `query.limit` means that another page follows.
        """
        has_more, documents = len(found) > query.limit, found[: query.limit]
        items = self.encode_at_once(documents, separator)
        if items is None:
            documents = [document for document in documents if is_member(document)]
            items = separator.join(await map_in_turns(self._codec.to_json, documents))
        if query.field == "name":
            return MemberPage(items, [document["name"] for document in documents], has_more)
        return MemberPage(items, [int(document["_id"]) for document in documents], has_more)

    def encode_at_once(self, documents: Sequence[Document], separator: bytes) -> bytes | None:
        """Return the JSON of members; None if a document has another form than most.

        The bytes are those that `MemberCodec.to_json` returns for each of them.
        """
        if not self._has_form or {*map(tuple, documents)} != self._form:
            return None
        columns: list[tuple[Any, ...]] = [*zip(*map(dict.values, documents), strict=True)]
        ids, names, *others = columns
        if not _IDS.issuperset(map(type, ids)) or {*map(type, names)} != {str}:
            return None
        if not _TEXTS.issuperset(map(type, chain.from_iterable(others))):
            return None
        if min(ids) < 1 or max(ids) > MAX_MEMBER_ID:
            return None
        text = orjson.dumps(documents)[len(b"[" + _STORED) : -len(b"]")]
        return _SHOWN + text.replace(b"," + _STORED, separator + _SHOWN)
