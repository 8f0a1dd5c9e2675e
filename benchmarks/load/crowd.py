"""The requests of scripts/bench growth, and the members of which they ask."""

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
_SAMPLE = 500  # members whose values are asked for

Requests = Iterator[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind."""

    title: str
    paths: Callable[["Crowd"], Requests]
    count: int = 300  # requests that are measured
    headers: bytes = b""
    cache_status: bytes = b""  # what each response must contain


class Crowd:
    """The members of one size, of which a sample is known."""

    def __init__(self, members: Collection, size: int) -> None:
        """`members` have the ids from 1 to `size`."""
        choice = random.Random(7)  # noqa: S311 (the same requests in each run)
        ids = choice.sample(range(2, size + 1), min(size - 1, _HOT + 3 * _SAMPLE))  # 1 is cached
        self.hot, self.others = ids[:_HOT], ids[_HOT:]
        found = {one["_id"]: one for one in members.find({"_id": {"$in": ids}})}
        self.sample = [found[one] for one in ids[:_SAMPLE]]
        self.size = size
        self.keys: dict[SortField, list[Any]] = {  # in the middle of a list
            "memberId": _keys(members, "_id", size),
            "name": _keys(members, "name", size),
        }

    def values(self, field: str) -> list[str]:
        """Return the values of a field in the sample."""
        return [str(value) for one in self.sample if (value := one[field])]

    def rare_words(self) -> list[str]:
        """Return a word of each of some members that hardly another member has."""
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
    return [one[key] for one in middle]


def _repeated(make: Callable[[Crowd], Iterable[str]]) -> Callable[[Crowd], Requests]:
    return lambda crowd: itertools.cycle([*make(crowd)])


def _reads(ids: Callable[[Crowd], Iterable[int]]) -> Callable[[Crowd], Iterable[str]]:
    return lambda crowd: [f"/members/{member_id}" for member_id in ids(crowd)]


def _half_way(field: SortField) -> Callable[[Crowd], Iterable[str]]:
    query = ListQuery(field=field, limit=PAGE)
    return lambda crowd: [next_path(query, key) for key in crowd.keys[field]]


def _filtered(
    parameter: str, values: Callable[[Crowd], Iterable[str]]
) -> Callable[[Crowd], Iterable[str]]:
    return lambda crowd: [f"{_LIST}&{parameter}={quote(value)}" for value in values(crowd)]


_EXACT = b"Prefer: count=exact\r\n"
KINDS = (
    Kind(
        "cached GET",
        _repeated(_reads(lambda crowd: crowd.hot)),
        count=3000,
        cache_status=b"hit",
    ),
    Kind(
        "GET that misses",
        lambda crowd: iter(_reads(lambda crowd: crowd.others)(crowd)),
        cache_status=b"fwd=miss",
    ),
    Kind("page of 50, the first", lambda _: itertools.repeat(_LIST)),
    Kind("page of 50, half way", _repeated(_half_way("memberId"))),
    Kind("page of 50 by name, the first", lambda _: itertools.repeat(f"{_LIST}&sort=name")),
    Kind("page of 50 by name, half way", _repeated(_half_way("name"))),
    Kind("`email`", _repeated(_filtered("email", lambda crowd: crowd.values("email")))),
    Kind("`phone`", _repeated(_filtered("phone", lambda crowd: crowd.values("phone")))),
    Kind(
        "`name_prefix` of eight letters",
        _repeated(_filtered("name_prefix", lambda crowd: [n[:8] for n in crowd.values("name")])),
    ),
    Kind("`q` of a rare word", _repeated(_filtered("q", Crowd.rare_words))),
    Kind("`q` of a word that a third has", _repeated(_filtered("q", Crowd.frequent_words))),
    Kind("`q` of a whole name", _repeated(_filtered("q", lambda crowd: crowd.values("name")))),
    Kind("exact count of all", lambda _: itertools.repeat(f"{_LIST}"), count=30, headers=_EXACT),
)
