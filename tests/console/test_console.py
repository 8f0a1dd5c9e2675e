"""The console in a real browser: one typical session. test_views.py tests each view."""

import gzip
import re
from typing import Any
from urllib.parse import urlsplit

from tests.console.conftest import PASSWORD, OpenConsole
from tests.support.api import Api, parsed
from tests.support.service import ROOT

FILES = ROOT / "tornado_members" / "console"
COMPRESSED: dict[str, Any] = {
    "headers": {"Accept-Encoding": "gzip"},
    "decompress_response": False,
}
MOST_BYTES = 60_000  # of the first view, compressed


async def test_member_is_found_edited_and_deleted_by_a_person(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    await api.create("Ada Lovelace", email="ada@example.org")
    await api.create("Grace Hopper")
    async with open_page_of_console() as console:
        await console.open()
        await console.see("h1", "Tea & <b>Club</b>")  # console.title, which is text
        await _check_first_view(console.page.requested, api)
        await console.enter("Username", "grace")
        await console.enter("Password", "wrong")
        await console.press("Enter")
        await console.see(".fault", "The username or the password is wrong.")
        await console.enter("Password", PASSWORD)
        await console.press("Enter")
        await console.see("tbody th", "Grace Hopper")

        await console.enter("Search members", "ada")
        await console.see_no("tbody tr:nth-child(2)")
        await console.press("ArrowDown", "Enter")
        await console.see("dd", "ada@example.org")
        await console.press("e")
        await console.enter("Name", " ")
        await console.enter("E-mail", "ada")
        await console.enter("Phone", "x")
        await console.press("Enter")
        for key in ("name", "email", "phone"):
            await console.see(f".field:has([name={key}][aria-invalid=true]) .fault")
        await console.see("div.fault", "3 entries need your attention.")
        await console.enter("Name", "Ada King")
        await console.enter("E-mail", "")
        await console.enter("Phone", "+44 20 7946 0018")
        await console.press("Enter")
        await console.see("member-panel h2", "Ada King")
        await console.see("tbody th", "Ada King")
        await console.see(".timeline del", "ada@example.org")
        assert parsed(await api("GET", "/members/1")) == {
            "memberId": 1,
            "name": "Ada King",
            "email": None,
            "phone": "+44 20 7946 0018",
        }

        await console.click("member-panel button", "Delete")
        await console.enter("Type the name", "ada king")
        assert await console.value("document.querySelector('dialog .danger').disabled")
        await console.enter("Type the name", "Ada King")
        await console.press("Enter")
        await console.see("tr.deleted", "Ada King")
        await console.see_no("member-panel")
        assert (await api("GET", "/members/1")).code == 404


async def _check_first_view(requested: list[str], api: Api) -> None:
    """Assert that the files up to the sign-in are few bytes."""
    size = 0
    for url in set(requested):
        path = urlsplit(url).path
        if path.startswith(("/console", "/openapi")):
            size += len((await api("GET", path, **COMPRESSED)).body)
    assert 20_000 < size < MOST_BYTES, size


async def test_console_files_are_cached_compressed_and_typed(api: Api) -> None:
    page = await api("GET", "/console", rights=None)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert b"Tea &amp; &lt;b&gt;Club&lt;/b&gt;" in page.body
    for file in FILES.iterdir():
        path = f"/console/{file.name}"
        found = await api("GET", path, rights=None, **COMPRESSED)
        if file.suffix not in (".js", ".css", ".svg"):
            assert found.code == 404, path
            continue
        assert found.code == 200, path
        assert gzip.decompress(found.body) == file.read_bytes()
        conditions = {"If-None-Match": found.headers["ETag"], "Accept-Encoding": "gzip"}
        assert (await api("GET", path, rights=None, headers=conditions)).code == 304
    for name in ("..%2Fapp.py", "%2e%2e", "main.js%00", "index.html"):
        assert (await api("GET", f"/console/{name}", rights=None)).code == 404


def test_console_makes_no_markup_from_text() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    for file in FILES.glob("*.js"):
        assert not re.search(forbidden, file.read_text()), file.name
    page = (FILES / "index.html").read_text()
    assert not re.search(r"\son\w+=|\sstyle=|<script>|https?://", page)
