"""The filters of the list."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from tornado.httpserver import HTTPServer

from tests.handlers.test_paging import walk
from tests.support.api import Api, parsed, problem
from tests.support.cases import cases
from tests.support.tokens import make_token
from tests.support.wire import bare_connection

pytestmark = pytest.mark.shared_services

WIDEST = "😀" * 255
RIGHT_TO_LEFT = "عادل بن علي"


async def names(api: Api, **query: Any) -> list[str]:
    return [member["name"] for member in await walk(api, f"/members?{urlencode(query)}")]


async def test_filter_by_name_compares_the_stored_form(api: Api) -> None:
    for name in ("José", "jose", "a/b c+d&e=f%20", RIGHT_TO_LEFT, WIDEST):
        await api.create(name)
    assert await names(api, name=" Jose\u0301 ") == ["José"]
    assert await names(api, name="JOSE") == []
    for name in ("a/b c+d&e=f%20", RIGHT_TO_LEFT, WIDEST):
        for sort in ("memberId", "-memberId", "name", "-name"):
            assert await names(api, name=name, sort=sort) == [name]


PREFIXES = [
    ("straß", ["Strasse", "STRASSE 2", "Straße"]),
    ("STRASS", ["Strasse", "STRASSE 2", "Straße"]),
    ("stras", ["Strasse", "STRASSE 2", "Straße"]),
    ("i\u0307st", ["İstanbul"]),
    ("İST", ["İstanbul"]),
    ("IST", ["Istria"]),
    ("\u0131", ["\u0131sparta"]),
    ("É", ["Émile", "émilie"]),
    ("e\u0301mil", ["Émile", "émilie"]),
    ("e", []),  # a letter with its accent is one character
    ("😀😀", [WIDEST]),
    (WIDEST, [WIDEST]),
    ("عادل", [RIGHT_TO_LEFT]),
    ("\u212a", ["kelvin"]),  # the Kelvin sign
    ("  strasse ", ["STRASSE 2"]),  # trailing white space is part of the name
    ("$", ["$where"]),
    (".*", []),
    ("\U0010ffff", ["\U0010ffff last"]),
    ("\ud7ff", ["\ud7ff before the surrogates"]),
]


async def test_filter_by_prefix_ignores_case_in_pages_of_one(api: Api) -> None:
    for name in dict.fromkeys(name for _, found in PREFIXES for name in found):
        await api.create(name)
    for prefix, expected in PREFIXES:
        for sort in ("memberId", "-name"):
            found = await names(api, name_prefix=prefix, limit=1, sort=sort)
            assert sorted(found) == sorted(expected), prefix


async def test_filter_ignores_the_case_of_emails_but_compares_phones_exactly(api: Api) -> None:
    await api.create("Ada", email="Ada@Example.org", phone="+44 20 7946")
    await api.create("Bob", email="ada@example.ORG", phone="+44207946")
    await api.create("Zoë", email="zoë@example.org", phone="+44 20 7946")
    await api.create("Nobody")
    assert await names(api, email="ADA@EXAMPLE.ORG") == ["Ada", "Bob"]
    assert await names(api, email="ZOE\u0308@example.org") == ["Zoë"]
    assert await names(api, email="ada@example") == []
    await api.create("Eve", email="eve@MÜNCHEN.de")
    await api.create("Max", email="Eve@xn--mnchen-3ya.DE")
    for form in ("eve@münchen.de", "EVE@xn--mnchen-3ya.de", "eve@mu\u0308nchen.de"):
        assert await names(api, email=form) == ["Eve", "Max"]
    assert await names(api, phone="+44 20 7946") == ["Ada", "Zoë"]
    assert await names(api, phone="44 20 7946") == []
    everything = {"email": "ada@example.org", "phone": "+44 20 7946", "name_prefix": "A"}
    assert await names(api, **everything, name="Ada") == ["Ada"]
    assert await names(api, **everything, name="Bob") == []


async def test_filter_finds_a_changed_member_by_its_new_values(api: Api) -> None:
    await api.create("$email", email="$name@example.org")
    await api("PUT", "/members/1", {"name": "$NAME", "email": "$Phone@example.org"})
    assert await names(api, name_prefix="$name") == ["$NAME"]
    assert await names(api, email="$PHONE@example.org") == ["$NAME"]
    await api("PUT", "/members/by-name/%24NAME", {"email": None})
    assert await names(api, email="$phone@example.org") == []
    assert await names(api, name_prefix="$email") == []


SEARCHES = [
    ("love ada", ["Ada Lovelace"]),
    ("EXAMPLE a.d", []),
    ("example ad org", ["Ada Lovelace", "adam_smith"]),
    ("zoe", ["Zoë", "ZOÉ 2"]),
    ("ZOË", ["Zoë", "ZOÉ 2"]),
    ("zo\u0308e", ["Zoë", "ZOÉ 2"]),
    ("smith", ["adam_smith", "x-smith's"]),  # `_` splits words
    ("s x", ["x-smith's"]),
    ("ovelace", []),
    ("tokyo", ["東京Tokyo"]),
    ("東", ["東京Tokyo"]),
    ("京", ["東京Tokyo"]),
    ("太郎", ["山田太郎"]),
    ("田太", ["山田太郎"]),
    ("山郎", []),
    ("ชาย", ["สมชาย ใจดี"]),
    ("ใจ สม", ["สมชาย ใจดี"]),
    ("555", []),  # a phone is not searched
    ("z z z z z z z z", ["Zoë", "ZOÉ 2"]),
    ("z" * 255, []),
    ("a b c d e f g h", []),
]


async def test_search_finds_words_of_names_and_emails(api: Api) -> None:
    await api.create("Ada Lovelace", email="ada@example.org", phone="555-0100")
    await api.create("adam_smith", email="a.s@example.org")
    for name in ("Zoë", "ZOÉ 2", "x-smith's", "東京Tokyo", "山田太郎", "สมชาย ใจดี", "!?"):
        await api.create(name)
    for query, expected in SEARCHES:
        for sort in ("memberId", "-name"):
            found = await names(api, q=query, limit=1, sort=sort)
            assert sorted(found) == sorted(expected), query
    await api("PUT", "/members/1", {"name": "Ada King"})
    assert await names(api, q="love") == []
    assert await names(api, q="king", name_prefix="ada", email="ada@example.org") == []
    assert await names(api, q="king", name_prefix="ada") == ["Ada King"]
    counted = await api("GET", "/members?q=a&limit=1", headers={"Prefer": "count=exact"})
    assert counted.headers["X-Total-Count"] == "2"
    exported = await api("GET", "/members?q=smith%20a", headers={"Accept": "text/csv"})
    assert exported.body.count(b"\r\n") == 2


NONSENSE = [
    ("q=", "q"),
    ("q=%20", "q"),
    ("q=!_-%F0%9F%98%80", "q"),
    ("q=" + "x" * 256, "q"),
    ("q=a+b+c+d+e+f+g+h+i", "q"),
    ("q=%ff", "q"),
    ("q=a&q=b", "q"),
    ("name=", "name"),
    ("name=%20", "name"),
    ("name=a%00b", "name"),
    ("name=" + "x" * 256, "name"),
    ("name=%ff", "name"),
    ("name=%ed%a0%80", "name"),  # a lone surrogate
    ("name_prefix=", "name_prefix"),
    ("name_prefix=%20%09", "name_prefix"),
    ("name_prefix=" + "x" * 256, "name_prefix"),
    ("name_prefix=" + quote("e" + "\u0301" * 1000), "name_prefix"),
    ("name_prefix=a&name_prefix=b", "name_prefix"),
    ("name_prefix=%f0%9f", "name_prefix"),
    ("email=", "email"),
    ("email=" + "x" * 256, "email"),
    ("email=%c0%80", "email"),
    ("phone=", "phone"),
    ("phone=" + "5" * 256, "phone"),
    ("phone=%80", "phone"),
    ("Name=x", "Name"),
]


async def test_filter_that_is_invalid_is_400(api: Api, subtests: pytest.Subtests) -> None:
    for query, parameter in NONSENSE:
        with subtests.test(query=query[:50]):
            found = problem(await api("GET", f"/members?{query}"), 400, "bad-parameter")
            assert found["parameter"] == parameter
            assert found["detail"].startswith(f"{parameter}: ")


@pytest.mark.parametrize(
    ("raw", "status", "found"),
    [
        ("name=José".encode(), b"200", b"Jos"),  # not a valid URI, but unambiguous
        ("name=José".encode("latin-1"), b"400", b"is not UTF-8"),
        (b"name=Jos%C3%A9&&", b"200", b"Jos"),
        (b"name_prefix=jos%c3%89", b"200", b"Jos"),
        (b"name=100%", b"200", b"100%"),  # taken literally
        (b"name=a+b%2bc;d", b"200", b"a b+c;d"),
        (b"n%61me=100%25", b"200", b"100%"),
        (b"name", b"400", b"is empty"),
    ],
)
async def test_query_is_decoded_from_its_raw_bytes(
    api: Api, http_server: HTTPServer, raw: bytes, status: bytes, found: bytes
) -> None:
    for name in ("José", "100%", "a b+c;d"):
        await api.create(name)
    token = make_token(access_rights=1).encode()
    async with bare_connection(http_server) as (reader, writer):
        head = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
        writer.write(b"GET /members?" + raw + head + token + b"\r\n\r\n")
        answer = await reader.read()
    assert answer.split()[1] == status
    assert found in answer.partition(b"\r\n\r\n")[2]


async def test_head_is_get_without_the_body(api: Api) -> None:
    for name in ("Ada", "Adam"):
        await api.create(name)
    prefer = {"Prefer": "count=exact"}
    path = "/members?name_prefix=ada&limit=1"
    get, head = [await api(method, path, headers=prefer) for method in ("GET", "HEAD")]
    assert head.code == 200
    assert head.body == b""
    for name in ("Content-Length", "Link", "X-Total-Count", "Preference-Applied", "Vary"):
        assert head.headers[name] == get.headers[name]


async def test_list_has_an_exact_count_on_preference(api: Api) -> None:
    for i in range(7):
        await api.create(f"Ada {i}", email="a@example.org" if i < 5 else None, phone="555-01")
    await api.create("Bob", email="A@example.org")
    for query, total in [
        ("", 8),
        ("name_prefix=aDA", 7),
        ("email=A@example.org", 6),
        ("email=A@example.org&name_prefix=ada", 5),
        ("phone=555-01", 7),
        ("name=Ada%203", 1),
        ("name=Ada%203&phone=1", 0),
        ("name_prefix=c", 0),
    ]:
        path = f"/members?limit=1&{query}"
        headers = {"Prefer": "respond-async, Count=exact; x=y"}
        while path:  # the count covers the whole list, on each page
            response = await api("GET", path, headers=headers)
            assert response.headers["X-Total-Count"] == f"{total}", query
            assert response.headers["Preference-Applied"] == "count=exact"
            assert "Prefer" in response.headers["Vary"]
            path = parsed(response)["next"]


@cases("prefer", ["", "count", "count=", "count=estimated", "x;count=exact", ","])
async def test_list_without_the_preference_counts_nothing(api: Api, prefer: str) -> None:
    response = await api("GET", "/members", headers={"Prefer": prefer})
    assert response.code == 200
    assert "X-Total-Count" not in response.headers
    assert "Preference-Applied" not in response.headers
