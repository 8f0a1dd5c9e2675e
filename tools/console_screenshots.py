"""Takes the screenshots of docs/console.md, from fake members, in Chromium.

    .venv/bin/python -m tools.console_screenshots

The typeface is Inter if it is installed (Debian: fonts-inter), else that of the system.
"""

import asyncio
import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient

from tests.support.console import Console, open_console
from tests.support.service import ROOT, Command

_FOLDER = ROOT / "docs" / "images"
_SETTINGS: dict[str, Any] = {
    "audit": {"enabled": True},
    "console": {"title": "Harbour Rowing Club", "status": True},
    "members": {
        "attributes": {
            "level": {"type": "string", "enum": ["junior", "active", "honorary"], "indexed": True},
            "birthday": {"type": "date"},
            "boats": {"type": "string", "list": True},
        }
    },
}
_FIRST = ("Amara", "Björn", "Chiara", "Dalia", "Elias", "Farah", "Gustav", "Hana", "Ingrid")
_LAST = ("Okafor", "Lindqvist", "Moretti", "Rahman", "Novak", "Haddad", "Sørensen")
_LEVELS = ("active", "active", "junior", "active", "honorary")
_FILE = """Full name;E-mail;Telephone;Level;Locker
Noa Stern;noa.stern@example.org;+44 20 7946 0031;active;12
Tomás Vidal;tomas.vidal@example.org;+44 20 7946 0032;junior;7
Yusuf Demir;yusuf.demir@example;+44 20 7946 0033;active;
Zoë Martin;zoe.martin@example.org;+44 20 7946 0034;active;9
Noa Stern;noa@example.org;;active;12
Liv Berg;liv.berg@example.org;+44 20 7946 0035;senior;3
"""


def main() -> None:
    """Start a service with fake members, and take the screenshots."""
    _FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        command = Command(Path(name), _SETTINGS)
        with command.serving() as service:
            token = command.token("--rights", "3", "--sub", "grace")
            asyncio.run(_make(service.url, token, Path(name)))


async def _make(url: str, token: str, folder: Path) -> None:
    await _store_members(url, token)
    file = folder / "new members.csv"
    file.write_text(_FILE)
    async with open_console(int(url.rpartition(":")[2]), folder) as console:
        await console.page.call("Emulation.setScrollbarsHidden", hidden=True)
        await console.resize(1280, 800)
        await console.open(token, "#/members/5?sort=name")
        await console.see(".timeline", "Changed")
        await _take(console, "console-members.png")
        await console.resize(1280, 800, "dark")
        await console.go("#/import")
        await console.choose_file(file)
        await console.see(".outcomes")
        await _take(console, "console-import.png")


async def _take(console: Console, name: str) -> None:
    await console.value("document.activeElement?.blur()")
    await console.page.call(
        "Runtime.evaluate", expression="document.fonts.ready", awaitPromise=True
    )
    found = await console.page.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)
    (_FOLDER / name).write_bytes(base64.b64decode(found["data"]))


async def _store_members(url: str, token: str) -> None:
    send, headers = AsyncHTTPClient().fetch, {"Authorization": f"Bearer {token}"}
    for member in _members():
        created = {**headers, "Content-Type": "application/json"}
        await send(f"{url}/members", method="POST", headers=created, body=json.dumps(member))
    patch = {**headers, "Content-Type": "application/merge-patch+json"}
    for change in ({"phone": "+44 20 7946 0099"}, {"attributes": {"level": "honorary"}}):
        body = json.dumps(change)
        await send(f"{url}/members/5", method="PATCH", headers=patch, body=body)


def _members() -> Iterator[dict[str, Any]]:
    for i in range(len(_FIRST) * len(_LAST)):
        first, last = _FIRST[i % len(_FIRST)], _LAST[i % len(_LAST)]
        attributes: dict[str, Any] = {"level": _LEVELS[i % len(_LEVELS)]}
        if i == 4:
            attributes |= {"birthday": "1987-05-14", "boats": ["Heron", "Kittiwake"]}
        address = f"{first}.{last}".lower().translate(str.maketrans("öø", "oo"))
        yield {
            "name": f"{first} {last}",
            "email": f"{address}@example.org",
            "phone": f"+44 20 7946 {i:04}",
            "attributes": attributes,
        }


if __name__ == "__main__":
    main()
