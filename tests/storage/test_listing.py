"""Lists on a real MongoDB are correct, and each query uses an index."""

import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import compress, product
from typing import Any, TypeVar

import pymongo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from tests.storage.conftest import EITHER_DRIVER
from tests.support.members import make_draft
from tests.support.mongodb import prepare_all
from tornado_members.errors import ListTooWide
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.model.member import Member, MemberDraft, SortField
from tornado_members.model.words import query_words, search_words
from tornado_members.storage import list_walk, listing
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo

pytestmark = EITHER_DRIVER

Admin = pymongo.MongoClient[dict[str, Any]]
T = TypeVar("T")

ORDERS: list[tuple[SortField, bool]] = [
    ("memberId", False),
    ("memberId", True),
    ("name", False),
    ("name", True),
]


def query_after(query: ListQuery, member: Member) -> ListQuery:
    """Return the query of the members after this one."""
    return replace(query, after=query.key_of(member))


@pytest.fixture
def store(io_loop: IOLoop, mongo: Mongo, admin: Admin, database_name: str) -> MemberStore:
    """On new indexes: one that ever held a list stays multikey, and cannot provide an order."""
    admin[database_name]["members"].drop()
    store = MemberStore(mongo)
    io_loop.run_sync(partial(prepare_all, store))
    return store


@contextmanager
def profiled(
    admin: Admin, database_name: str, *, with_kills: bool = False
) -> Iterator[list[dict[str, Any]]]:
    """Collect the operations of the service within the block from MongoDB's profiler.

    Without those that close cursors, by default: the driver may send them later.
    """
    database, seen = admin[database_name], list[dict[str, Any]]()
    database.drop_collection("system.profile")
    database.create_collection("system.profile", capped=True, size=32 * 1024 * 1024)
    database.command("profile", 2)
    try:
        yield seen
        queries: dict[str, Any] = {"appName": "tornado_members"}
        if not with_kills:
            queries["command.killCursors"] = {"$exists": False}
        seen += database["system.profile"].find(queries, sort=[("ts", 1)])
    finally:
        database.command("profile", 0)
        database.drop_collection("system.profile")


def stages(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["stage"]
    for inner in [*plan.get("inputStages", []), plan.get("inputStage")]:
        if inner:
            yield from stages(inner)


def check_plans(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        used = set(stages(entry["execStats"])) if "execStats" in entry else set()
        assert "IXSCAN" in entry["planSummary"] or entry["planSummary"] == "EOF", entry
        assert not used & {"COLLSCAN", "SORT_MERGE"}, entry
        # Keys of a prefix may be sorted, of which MongoDB holds one page. Of documents, it reads
        # those of the page only.
        sorts = entry.get("hasSortStage") or used & {"SORT"}
        assert not sorts or entry["docsExamined"] <= entry["nreturned"], entry
        assert not entry.get("usedDisk"), entry


SHARING = 20  # members share an address, others a number, others a name prefix
TOTAL = 400
# The fields that the members below share with the one of the filters.
ALL_FILTERS = Filters(
    "Group 10 b 7",
    "gROUP 10 B",
    {"email": "SHARED.07@example.org", "phone": "555-0007"},
    "GRÖU 7 exampl",
)


def crowd() -> Iterator[MemberDraft]:
    for i in range(TOTAL):
        name = f"{'Group' if i % 3 else 'GROUP'} {i // SHARING} {'ab'[i % 2]} {i}"
        address = f"{'shared' if i % 2 else 'Shared'}.{i % SHARING:02}@example.org"
        yield make_draft(name=name, email=address, phone=f"555-{i % SHARING:04}")
    yield make_draft(name="Group 10 b 7", email="shared.07@example.org", phone="555-0007")


def every_combination() -> Iterator[Filters]:
    for chosen in product([False, True], repeat=5):
        name, prefix, q, *equal = chosen
        yield Filters(
            ALL_FILTERS.name if name else None,
            ALL_FILTERS.name_prefix if prefix else None,
            dict(compress(ALL_FILTERS.equal.items(), equal)),
            ALL_FILTERS.q if q else None,
        )


async def test_list_of_every_combination_uses_an_index(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queries of the store use neither a collection scan nor a sort, and no other detour."""
    monkeypatch.setattr(listing, "_FEW", 100)
    await store.insert_many(list(crowd()))
    limit, pages = 4, 0
    for filters in every_combination():
        with profiled(admin, database_name) as entries:
            for field, descending in ORDERS:
                query = ListQuery(filters, field, descending, limit=limit)
                page = await store.page(query)
                assert page, filters
                await store.page(query_after(query, page[0]))
                pages += 2
        assert len(entries) >= 8
        check_plans(entries)
        for entry in entries:
            # Two equalities use the index of one, and examine all members with that value.
            allowed = limit if _narrows_once(filters) else SHARING + 1
            assert entry["docsExamined"] <= allowed, entry
            # Of several prefixes, the one with the fewest keys is used.
            most_keys = listing._FEW + 1 if _words(filters) else 2 * SHARING + limit
            assert entry["keysExamined"] <= most_keys, entry
    assert pages == 32 * 4 * 2


def _narrows_once(filters: Filters) -> bool:
    others = len(filters.equal) + (filters.name_prefix is not None) + _words(filters)
    return filters.name is not None or others <= 1


def _words(filters: Filters) -> int:
    return len(filters.q.split()) if filters.q is not None else 0


async def test_count_of_every_combination_uses_an_index(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_FEW", 100)
    await store.insert_many(list(crowd()))
    for filters in every_combination():
        with profiled(admin, database_name) as entries:
            total = await store.count(filters)
        assert total == len(await store.page(ListQuery(filters, limit=1000)))
        check_plans(entries)
        counting = entries[-1]
        only_names = filters in (Filters(), Filters(name_prefix=ALL_FILTERS.name_prefix))
        few = 2 * SHARING if _words(filters) else SHARING + 1
        assert counting["docsExamined"] <= (0 if only_names else few)
        assert counting["keysExamined"] <= (TOTAL + 2 if filters == Filters() else 2 * few)


def limit_reads(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let a list sort at most so many keys, and walk at least so many members."""
    monkeypatch.setattr(listing, "_MAX_KEYS", most)
    monkeypatch.setattr(list_walk, "_MIN_READ", most)


async def test_list_by_a_common_prefix_walks_its_own_index(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To find that out, the query examines keys only, and no more than its limit."""
    await store.insert_many(list(crowd()))
    limit_reads(monkeypatch, 50)
    for filters in (Filters(name_prefix="group 1"), Filters(q="gro exa"), Filters(q="s")):
        for field, descending in ORDERS:
            query = ListQuery(filters, field, descending, limit=5)
            with profiled(admin, database_name) as entries:
                page = await store.page(query)
                following = await store.page(query_after(query, page[1]))
            assert following[:3] == page[2:]
            check_plans(entries)
            walks = [entry for entry in entries if entry["docsExamined"]]
            own = f"IXSCAN {{ {'_id' if field == 'memberId' else 'name'}: 1 }}"
            assert {walk["planSummary"] for walk in walks} == {own}
            counts = [entry for entry in entries if entry["planSummary"] != own]
            assert all(entry["keysExamined"] <= listing._FEW + 1 for entry in counts)


async def test_search_that_most_members_match_reads_few_of_them(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert_many(list(crowd()))
    limit_reads(monkeypatch, 50)
    for field, descending in ORDERS:
        query = ListQuery(Filters(q="gro"), field, descending, limit=5)
        await store.page(query)  # which counts the members with the word
        with profiled(admin, database_name) as entries:
            assert len(await store.page(query)) == 5
        assert sum(entry["keysExamined"] for entry in entries) <= 5 * 10 + 1 + 5


async def test_list_by_a_common_prefix_finds_matches_at_the_far_end(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads a part of the members that do not match, then the keys of those that match."""
    limit_reads(monkeypatch, 20)
    monkeypatch.setattr(list_walk, "_READ_PER_MATCH", 10)
    monkeypatch.setattr(list_walk, "_FIRST_PER_MATCH", 2)
    drafts = [make_draft(name=f"Member {i:04}") for i in range(1000)]
    last = [make_draft(name=f"Member 2{i:03}", email=f"zoe.{i}@example.org") for i in range(60)]
    await store.insert_many(drafts[:500])
    await store.insert_many(drafts[500:])
    await store.insert_many(last)
    for filters in (Filters(name_prefix="member 2"), Filters(q="ZOE"), Filters(q="zoe mem")):
        for field in ("memberId", "name"):
            query, found = ListQuery(filters, field, limit=7), list[Member]()
            with profiled(admin, database_name) as entries:
                while page := await store.page(query):
                    found += page
                    query = query_after(query, page[-1])
            assert [member.name for member in found] == [draft.name for draft in last]
            check_plans(entries)
            assert max(entry["docsExamined"] for entry in entries) <= 7 * 10 + 1


async def test_search_of_two_words_that_few_members_share_reads_keys(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a search for a whole name: many members have either word, and hardly one has both."""
    monkeypatch.setattr(listing, "_FEW", 5)
    drafts = [make_draft(name=f"{'Ada' if i % 2 else 'Lovelace'} {i:02}") for i in range(60)]
    meant = [make_draft(name=f"Ada {letter} Lovelace") for letter in "ABC"]
    await store.insert_many(drafts + meant)
    for field, descending in ORDERS:
        query = ListQuery(Filters(q="love ada"), field, descending, limit=2)
        with profiled(admin, database_name) as entries:
            first = await store.page(query)
            second = await store.page(query_after(query, first[-1]))
            assert await store.count(query.filters) == 3
        names = sorted((draft.name for draft in meant), reverse=descending)
        assert [member.name for member in first + second] == names
        check_plans(entries)
        assert sum(entry["docsExamined"] for entry in entries) <= 2 * 3 + 1
        assert sum(entry["keysExamined"] for entry in entries) <= 600


async def test_next_page_of_a_search_does_not_count_again(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert_many(list(crowd()))
    for most_keys in (5, 500):
        limit_reads(monkeypatch, most_keys)
        query = ListQuery(Filters(q=f"gro{'u' if most_keys == 5 else ''}"), limit=2)
        with profiled(admin, database_name) as entries:
            first = await store.page(query)
        with profiled(admin, database_name) as later:
            await store.page(query_after(query, first[-1]))
        assert len(later) == len(entries) - 1


async def test_list_that_is_too_wide_is_refused(
    store: MemberStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert_many(list(crowd()))
    limit_reads(monkeypatch, 20)
    monkeypatch.setattr(list_walk, "_READ_PER_MATCH", 1)
    monkeypatch.setattr(list_walk, "_FIRST_PER_MATCH", 1)
    monkeypatch.setattr(listing, "_MAX_KEYS_OF_WIDE", 150)
    monkeypatch.setattr(listing, "_FEW", 100)
    assert len(await store.page(ListQuery(Filters(q="g e")))) == 50
    with pytest.raises(ListTooWide):  # each has 200 matches, and no member has both
        await store.page(ListQuery(Filters(q="a b e")))
    monkeypatch.setattr(listing, "_TIMEOUT_SHARE", 1e-6)
    for filters in (Filters(name_prefix="group"), Filters(q="g e")):
        with pytest.raises(ListTooWide):
            await store.page(ListQuery(filters))
    with pytest.raises(ListTooWide):
        await store.count(Filters(q="g e"))
    assert await store.page(ListQuery(Filters(q="nobody"))) == []


async def test_list_by_a_common_prefix_in_the_order_of_names_reads_only_ranges(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of names, the matches are adjacent, and most others come before or after."""
    beginnings = ("Aaron", "Mario", "Mz", "Zoë", "aaron", "mz", "zoë")
    drafts = [make_draft(name=f"{beginning} {i:02}") for beginning in beginnings for i in range(50)]
    meant = [
        make_draft(name=f"{beginning} {i:02}")
        for beginning in ("MARY", "Mary", "mary")
        for i in range(9)
    ]
    await store.insert_many(drafts + meant)
    limit_reads(monkeypatch, 5)
    for descending in (False, True):
        query = ListQuery(Filters(name_prefix="mARY"), "name", descending, limit=5)
        found: list[Member] = []
        with profiled(admin, database_name) as entries:
            while page := await store.page(query):
                found += page
                query = query_after(query, page[-1])
        assert [m.name for m in found] == sorted((d.name for d in meant), reverse=descending)
        check_plans(entries)
        # Of the others, it examines only those with the same first three letters, in any case.
        assert sum(entry["docsExamined"] for entry in entries) <= 27 + 50


MANY = 1010


async def test_list_page_1000_reads_as_many_keys_as_page_1(
    store: MemberStore, admin: Admin, database_name: str
) -> None:
    """Measured in keys and documents that MongoDB examines."""
    drafts = [
        make_draft(name=f"Member {i:05}", email="all@example.org", phone="555") for i in range(MANY)
    ]
    members = [member for member in await store.insert_many(drafts) if member]
    for filters in ({}, {"email": "ALL@example.org"}, {"phone": "555"}):
        for field, descending in ORDERS:
            query = ListQuery(Filters(equal=filters), field, descending, limit=3)
            ordered = members[::-1] if descending else members
            with profiled(admin, database_name) as entries:
                assert await store.page(query) == ordered[:3]
                assert await store.page(query_after(query, ordered[999])) == ordered[1000:1003]
            first, late = [(entry["keysExamined"], entry["docsExamined"]) for entry in entries]
            assert first == late == (3, 3)


def case_fold(text: str) -> str:
    normalized = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", normalized.casefold())


def is_meant(member: Member, filters: Filters) -> bool:
    equal, email = filters.equal, member.values["email"] or ""
    return (
        filters.name in (None, member.name)
        and case_fold(member.name).startswith(case_fold(filters.name_prefix or ""))
        and case_fold(equal.get("email", email)) == case_fold(email)
        and equal.get("phone", member.values["phone"]) == member.values["phone"]
        and (filters.q is None or finds(filters.q, member))
    )


def finds(q: str, member: Member) -> bool:
    words = search_words([member.name, member.values["email"] or ""])
    return all(any(word.startswith(prefix) for word in words) for prefix in query_words(q))


PIECES = ["a", "A", "ß", "ss", "SS", "\u0130", "i", "\u0131", "é", "E\u0301", "\u0301", "ﬀ", "😀"]
PIECES += ["\ue000", "\U0010ffff", "\u0627", " b", "$"]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map(
    lambda pieces: unicodedata.normalize("NFC", "".join(pieces)).strip()
)
EMAILS = st.sampled_from(["a@b.org", "A@B.ORG", "straße@b.org", "STRASSE@b.org", "é@b.org"])
PHONES = st.sampled_from(["555", "+555"])
DRAFTS = st.builds(make_draft, name=NAMES, email=st.none() | EMAILS, phone=st.none() | PHONES)
FILTERS = st.builds(
    Filters,
    name=st.none() | st.none() | NAMES,
    name_prefix=st.none() | NAMES,
    equal=st.fixed_dictionaries({}, optional={"email": EMAILS, "phone": PHONES}),
    q=st.none() | st.sampled_from(["a", "A s", "org b a", "E", "ss-i", "strasse", "i f", "zz"]),
)


def test_list_pages_together_are_the_whole_list(
    io_loop: IOLoop,
    store: MemberStore,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    driver: str,
) -> None:
    """For any members, some of them renamed: compared with a filter and a sort in Python.

    The queries are the same on both drivers, so the second one needs fewer examples.
    """

    def run(call: Callable[[], Awaitable[T]]) -> T:
        return io_loop.run_sync(call)  # type: ignore[no-any-return]

    async def walk(query: ListQuery) -> list[Member]:
        members: list[Member] = []
        while page := await store.page(query):
            assert len(page) <= query.limit
            members += page
            query = query_after(query, page[-1])
        return members

    @settings(max_examples=20 if driver == "motor" else 6)
    @given(
        st.lists(DRAFTS, max_size=12, unique_by=lambda draft: draft.name),
        st.lists(DRAFTS, max_size=3),
        st.lists(FILTERS, min_size=1, max_size=4),
        st.sampled_from([1, 2, 3, 100]),
        st.tuples(st.sampled_from([0, 2, 5000]), st.sampled_from([0, 1, 100])),
    )
    def check(
        drafts: list[MemberDraft],
        later: list[MemberDraft],
        kinds: list[Filters],
        limit: int,
        limits: tuple[int, int],
    ) -> None:
        most_keys, read_per_match = limits
        limit_reads(monkeypatch, most_keys)
        monkeypatch.setattr(list_walk, "_READ_PER_MATCH", read_per_match)
        monkeypatch.setattr(list_walk, "_FIRST_PER_MATCH", min(read_per_match, 1))
        monkeypatch.setattr(listing, "_FEW", min(most_keys, 1))
        admin[store.mongo.database.name]["members"].delete_many({})
        if drafts:
            run(lambda: store.insert_many(drafts))
        everybody = run(lambda: walk(ListQuery()))
        names = {draft.name for draft in drafts}
        for draft, member in zip(later, everybody, strict=False):
            if draft.name not in names:
                names.add(draft.name)
                run(lambda m=member, d=draft: store.replace(m.member_id, d))  # type: ignore[misc]
        everybody = run(lambda: walk(ListQuery()))
        assert len(everybody) == len(drafts)
        for filters, (field, descending) in product(kinds, ORDERS):
            query = ListQuery(filters, field, descending, limit=limit)
            expected = [member for member in everybody if is_meant(member, filters)]
            expected.sort(key=query.key_of, reverse=descending)
            assert run(lambda q=query: walk(q)) == expected  # type: ignore[misc]
            assert run(lambda f=filters: store.count(f)) == len(expected)  # type: ignore[misc]

    check()


@pytest.fixture
def picks_in_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """MongoDB leaves out all members that were changed between their keys and their documents."""

    async def pick_at_once(_lists: Any, _query: Any, _prefix: Any) -> list[Any]:
        return []

    monkeypatch.setattr(listing.MemberLists, "_pick_at_once", pick_at_once)


async def test_list_page_has_members_that_mongodb_left_out(
    store: MemberStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [make_draft(name=f"Ada {i}") for i in range(5)]
    members = [member for member in await store.insert_many(drafts) if member]
    pick_at_once, left_out = listing.MemberLists._pick_at_once, set[int]()

    async def leave_out(lists: Any, *arguments: Any) -> Any:
        found = await pick_at_once(lists, *arguments)
        return [document for document in found if document["_id"] not in left_out]

    monkeypatch.setattr(listing.MemberLists, "_pick_at_once", leave_out)
    for (field, descending), limit in product(ORDERS, (2, 5, 6)):
        query = ListQuery(Filters(q="ada"), field, descending, limit=limit)
        expected = members[::-1][:limit] if descending else members[:limit]
        for ids in ((), (2,), (1, 2), (4, 5), range(1, 6)):
            left_out = {*ids}
            assert await store.page(query) == expected


@pytest.mark.usefixtures("picks_in_two_steps")
async def test_list_page_is_full_although_members_were_deleted_meanwhile(
    store: MemberStore, admin: Admin, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = [make_draft(name=f"Ada {i}") for i in range(9)]
    members = [member for member in await store.insert_many(drafts) if member]
    expected = [member for member in members if member.member_id not in (1, 2, 4)]
    look = listing.MemberLists._keys

    async def look_and_delete(lists: Any, *arguments: Any) -> Any:
        async for keys in look(lists, *arguments):
            admin[database_name]["members"].delete_many({"_id": {"$in": [1, 2, 4]}})
            yield keys

    monkeypatch.setattr(listing.MemberLists, "_keys", look_and_delete)
    for field, descending in ORDERS:
        admin[database_name]["members"].delete_many({})
        await store.insert_many(drafts, 1)
        query = ListQuery(Filters(name_prefix="ada"), field, descending, limit=4)
        ordered = expected[::-1] if descending else expected
        assert await store.page(query) == ordered[:4]
        assert await store.page(replace(query, limit=6)) == ordered


@pytest.mark.usefixtures("picks_in_two_steps")
async def test_list_page_leaves_out_members_that_were_renamed_meanwhile(
    store: MemberStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = listing.MemberLists._keys

    async def look_and_rename(lists: Any, *arguments: Any) -> Any:
        async for keys in look(lists, *arguments):
            await store.replace(2, make_draft(name="Bob"))
            await store.replace(3, make_draft(name="Ada X"))
            yield keys

    monkeypatch.setattr(listing.MemberLists, "_keys", look_and_rename)
    for (field, descending), expected in zip(ORDERS, ([1, 3], [3, 1], [1], [1]), strict=True):
        for member_id in (1, 2, 3):
            await store.delete(member_id)
            await store.insert(make_draft(name=f"Ada {member_id}"), member_id)
        page = await store.page(ListQuery(Filters(name_prefix="ada"), field, descending))
        assert [member.member_id for member in page] == expected
