"""Drives the console in a real Chromium, as a user does."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.browser import Page, find_chromium, open_page

AXE = Path(__file__).parent.parent / "console" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = find_chromium()
_STORAGE_KEY = "tornado-members-token"
_SECONDS = 20  # for one step
_KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "Tab": (9, ""),
    "ArrowDown": (40, ""),
    "ArrowUp": (38, ""),
    " ": (32, " "),
}


class Console:
    """A page with the console, at an address."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.value = page.value

    async def wait_for(self, expression: str) -> Any:
        """Wait until the value of an expression is true; return it."""
        try:
            async with asyncio.timeout(_SECONDS):
                return await self.page.wait_for(expression)
        except TimeoutError:
            shown = await self.value("document.body.innerText")
            raise AssertionError(f"{expression} is not true of: {shown[:3000]}") from None

    async def open(self, token: str | None = None, route: str = "") -> None:
        """Load the page at a route, with a token in the storage of the tab."""
        stored = json.dumps({"token": token, "usesPassword": False}) if token else ""
        store = f"sessionStorage.setItem({_STORAGE_KEY!r}, {json.dumps(stored)})"
        script = f"if (location.protocol === 'http:') {store}"
        added = await self.page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
        # Another document, also if only the fragment of the address differs.
        await self.page.call("Page.navigate", url="about:blank")
        await self.page.call("Page.navigate", url=f"{self.address}/console{route}")
        await self.see("app-header" if token else "sign-in")
        await self.page.call("Page.removeScriptToEvaluateOnNewDocument", **added)

    async def go(self, route: str) -> None:
        """Follow a link to a route, such as `#/users`."""
        await self.value(f"location.hash = {json.dumps(route)}")

    async def see(self, selector: str, text: str = "") -> str:
        """Wait until an element that has a text is visible; return its text."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        # Rows out of sight are not laid out (content-visibility), so that their innerText is empty.
        shown = "one.checkVisibility() && (one.innerText || one.textContent).includes(text)"
        condition = f"((text) => {found}.find((one) => {shown})?.innerText ?? null)"
        return str(await self.wait_for(f"{condition}({json.dumps(text)})?.concat(' ')"))[:-1]

    async def see_no(self, selector: str) -> None:
        """Wait until no such element is visible."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        await self.wait_for(f"!{found}.some((one) => one.checkVisibility())")

    async def click(self, selector: str, text: str = "") -> None:
        """Click the element that has a text."""
        await self.see(selector, text)
        has = f"(one.innerText || one.textContent).includes({json.dumps(text)})"
        find = f"find((one) => one.checkVisibility() && {has})"
        await self.value(f"[...document.querySelectorAll({json.dumps(selector)})].{find}.click()")

    async def enter(self, label: str, text: str) -> None:
        """Replace the text of the input with a label."""
        shown = f"one.checkVisibility() && one.innerText.startsWith({json.dumps(label)})"
        by_label = f"[...document.querySelectorAll('label')].findLast((one) => {shown})"
        await self.wait_for(f"!!{by_label}?.control")
        await self.value(f"{by_label}.control.focus(), {by_label}.control.select?.()")
        await self.page.call("Input.insertText", text=text)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            code, text = _KEYS.get(key, (ord(key[0].upper()), key))
            about: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
            if text:
                about["text"] = text
            await self.page.call("Input.dispatchKeyEvent", type="keyDown", **about)
            await self.page.call("Input.dispatchKeyEvent", type="keyUp", **about)

    async def choose_file(self, file: Path) -> None:
        """Choose a file in the view's input."""
        await self.wait_for("!!document.querySelector('input[type=file]')")
        found = await self.page.call(
            "Runtime.evaluate", expression="document.querySelector('input[type=file]')"
        )
        await self.page.call(
            "DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"]
        )

    async def resize(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Set the size of the window, and the colour scheme."""
        await self.page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.page.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )

    async def violations(self) -> list[str]:
        """Return the violations of WCAG 2.2 AA that axe-core finds in what is shown."""
        if not await self.value("'axe' in window"):
            await self.value(f"{AXE.read_text()};1")
        rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        options = json.dumps({"runOnly": {"type": "tag", "values": rules}})
        found = await self.page.call(
            "Runtime.evaluate",
            expression=f"axe.run(document, {options}).then(({{violations}}) => JSON.stringify("
            "violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.html.slice(0, 200) + ' '"
            " + n.failureSummary).join(' | '))))",
            awaitPromise=True,
            returnByValue=True,
        )
        return list(json.loads(found["result"]["value"]))


@asynccontextmanager
async def open_console(port: int, folder: Path) -> AsyncIterator[Console]:
    """Yield the console of a service in a new browser, and check what it requested at the end."""
    assert CHROMIUM, "scripts/setup --browser installs it"
    address = f"http://127.0.0.1:{port}"
    async with open_page(CHROMIUM, folder / "chromium") as page:
        console = Console(page, address)
        await console.resize(1440)
        yield console
        policy = [
            error for error in page.errors if "Content Security" in error or "Uncaught" in error
        ]
        assert policy == [], policy
        own = (address, "blob:", "data:", "about:")  # the browser draws its date picker with data:
        foreign = [url for url in page.requested if not url.startswith(own)]
        assert foreign == [], foreign
