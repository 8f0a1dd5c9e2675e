"""/docs, the page to read and try the API, in a real browser."""

import os
import socket
from pathlib import Path

import pytest
from tornado.httpserver import HTTPServer

from tests.support.api import Api, problem
from tests.support.browser import find_chromium, open_page
from tests.support.cases import cases
from tests.support.tokens import make_token

CHROMIUM = find_chromium()


@pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",
    reason="Chromium is missing and could not be installed",
)
async def test_docs_page_sends_requests_with_a_token_and_shows_the_response(
    http_server: HTTPServer,
    http_server_port: tuple[socket.socket, int],
    folder: Path,
) -> None:
    assert CHROMIUM, "scripts/setup --browser installs it"
    address = f"http://127.0.0.1:{http_server_port[1]}"
    async with open_page(CHROMIUM, folder) as page:
        await page.call("Page.navigate", url=f"{address}/docs")
        await page.click(".btn.authorize", then="#auth-bearer-value")
        await page.type("#auth-bearer-value", make_token(access_rights=3))
        await page.click(".auth-btn-wrapper .btn.authorize")
        await page.click(".auth-btn-wrapper .btn-done")
        operation = "#operations-members-addMember"
        await page.click(f"{operation} .opblock-summary-control", then=f"{operation} .btn.execute")
        await page.click(f"{operation} .btn.execute", then=".live-responses-table .response")
        answer = "document.querySelector('.live-responses-table .response')?.innerText"
        shown = await page.wait_for(answer)
        assert shown.startswith("201")
        assert '"name": "Ada Lovelace"' in shown
        assert "location: /members/1" in shown
        assert page.errors == []  # no violation of the Content-Security-Policy
        urls = [url for url in page.requested if not url.startswith("data:")]
        assert len(urls) >= 6
        assert {url[: len(address)] for url in urls} == {address}  # no other host


async def test_docs_page_has_a_strict_content_security_policy(api: Api) -> None:
    answer = await api("GET", "/docs", rights=None)
    assert answer.code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@cases(
    ("name", "media_type"),
    [
        ("docs.js", "text/javascript; charset=utf-8"),
        ("docs.css", "text/css; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_docs_files_have_their_types_and_may_be_cached(
    api: Api, name: str, media_type: str
) -> None:
    answer = await api("GET", f"/docs/{name}", rights=None)
    assert answer.code == 200
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Cache-Control"] == "public, no-cache"
    conditions = {"If-None-Match": answer.headers["ETag"]}
    assert (await api("GET", f"/docs/{name}", headers=conditions)).code == 304
    head = await api("HEAD", f"/docs/{name}")
    assert (head.code, head.body) == (200, b"")


NO_FILES = [
    "docs.py",
    "..%2fdocs.py",
    "..%2F..%2Ferrors.py",
    "%2e%2e",
    "swagger-ui.css%00",
    "%2Fetc",
]


async def test_docs_serves_no_other_files(api: Api, subtests: pytest.Subtests) -> None:
    for name in NO_FILES:
        with subtests.test(name=name):
            problem(await api("GET", f"/docs/{name}"), 404, "not-found")
