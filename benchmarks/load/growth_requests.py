"""The requests of scripts/bench growth, and the members that they request."""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pymongo
from pymongo import IndexModel

from benchmarks.load.bed import Collection, Document
from tornado_members.handlers.paging import next_path
from tornado_members.model.list_query import ListQuery
from tornado_members.model.member import (
    MEMBER_FIELDS,
    Member,
    MemberDraft,
    SortField,
)
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.list_indexes import BY_NAME, list_indexes

PAGE = 50
_LIST = f"/members?limit={PAGE}"
_HOT = 100
_BATCH = 10_000
_SAMPLE = 500  # members whose values are requested

Requests = Iterator[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind."""

    title: str
    paths: Callable[["MemberSample"], Requests]
    count: int = 300  # requests that are measured
    headers: bytes = b""
    cache_status: bytes = b""  # what each response must contain


class MemberSample:
    """A sample of a collection of members."""

    def __init__(self, members: Collection, size: int) -> None:
        """The ids of `members` are 1 to `size`."""
        choice = random.Random(7)
        ids = choice.sample(range(2, size + 1), min(size - 1, _HOT + 3 * _SAMPLE))  # 1 is cached
        self.hot, self.others = ids[:_HOT], ids[_HOT:]
        found = {document["_id"]: document for document in members.find({"_id": {"$in": ids}})}
        self.members = [found[member_id] for member_id in ids[:_SAMPLE]]
        self.size = size
        self.keys: dict[SortField, list[Any]] = {  # in the middle of a list
            "memberId": _keys(members, "_id", size),
            "name": _keys(members, "name", size),
        }

    def values(self, field: str) -> list[str]:
        """Return the values of a field in the sample."""
        return [str(value) for member in self.members if (value := member[field])]

    def rare_words(self) -> list[str]:
        """Return a word of each member in the sample that hardly any other member has."""
        return [email.partition("@")[0] for email in self.values("email")]

    def frequent_words(self) -> list[str]:
        """Return words that a third of all members have."""
        return sorted({email.rpartition(".")[2] for email in self.values("email")})


def store_members(members: Collection, drafts: Iterable[MemberDraft], *, first: int) -> None:
    """Store members as the service would, and create their indexes afterwards."""
    codec = MemberCodec()
    members.drop_indexes()
    numbered = enumerate(drafts, start=first)
    documents = (codec.encode(Member.from_draft(number, draft)) for number, draft in numbered)
    fast = members.with_options(write_concern=pymongo.WriteConcern(w=1, j=False))
    while batch := [*itertools.islice(documents, _BATCH)]:
        fast.insert_many(batch, ordered=False)
    members.create_indexes([IndexModel(BY_NAME, unique=True), *list_indexes(MEMBER_FIELDS)])


def _keys(members: Collection, key: str, size: int) -> list[Any]:
    only: Document = {"_id": 0, key: 1} if key != "_id" else {"_id": 1}
    middle = members.find({}, only).sort(key, pymongo.ASCENDING).skip(size // 2).limit(_SAMPLE)
    return [document[key] for document in middle]


def _repeated(make: Callable[[MemberSample], Iterable[str]]) -> Callable[[MemberSample], Requests]:
    return lambda sample: itertools.cycle([*make(sample)])


def _reads(ids: Callable[[MemberSample], Iterable[int]]) -> Callable[[MemberSample], Iterable[str]]:
    return lambda sample: [f"/members/{member_id}" for member_id in ids(sample)]


def _half_way(field: SortField) -> Callable[[MemberSample], Iterable[str]]:
    query = ListQuery(field=field, limit=PAGE)
    return lambda sample: [next_path(query, key) for key in sample.keys[field]]


def _filtered(
    parameter: str, values: Callable[[MemberSample], Iterable[str]]
) -> Callable[[MemberSample], Iterable[str]]:
    return lambda sample: [f"{_LIST}&{parameter}={quote(value)}" for value in values(sample)]


_EXACT = b"Prefer: count=exact\r\n"
KINDS = (
    Kind(
        "cached GET",
        _repeated(_reads(lambda sample: sample.hot)),
        count=3000,
        cache_status=b"hit",
    ),
    Kind(
        "GET that misses",
        lambda sample: iter(_reads(lambda sample: sample.others)(sample)),
        cache_status=b"fwd=miss",
    ),
    Kind("page of 50, the first", lambda _: itertools.repeat(_LIST)),
    Kind("page of 50, half way", _repeated(_half_way("memberId"))),
    Kind("page of 50 by name, the first", lambda _: itertools.repeat(f"{_LIST}&sort=name")),
    Kind("page of 50 by name, half way", _repeated(_half_way("name"))),
    Kind("`email`", _repeated(_filtered("email", lambda sample: sample.values("email")))),
    Kind("`phone`", _repeated(_filtered("phone", lambda sample: sample.values("phone")))),
    Kind(
        "`name_prefix` of eight letters",
        _repeated(_filtered("name_prefix", lambda sample: [n[:8] for n in sample.values("name")])),
    ),
    Kind("`q` of a rare word", _repeated(_filtered("q", MemberSample.rare_words))),
    Kind("`q` of a word that a third has", _repeated(_filtered("q", MemberSample.frequent_words))),
    Kind("`q` of a whole name", _repeated(_filtered("q", lambda sample: sample.values("name")))),
    Kind("exact count of all", lambda _: itertools.repeat(f"{_LIST}"), count=30, headers=_EXACT),
)
