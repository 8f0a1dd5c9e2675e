"""A real Chromium without a window, driven over its DevTools protocol."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

_SECONDS = 30  # the limit of a step, which only ends a test that hangs
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the sandbox needs namespaces that containers lack; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Return the path of Chromium; scripts/setup --browser installs it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Page:
    """A page, its network requests, and its errors."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)
        self._results: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requested: list[str] = []
        self.errors: list[str] = []

    async def listen(self) -> None:
        """Process the messages of the browser until it ends."""
        while (text := await self._connection.read_message()) is not None:
            message = json.loads(text)
            parameters = message.get("params", {})
            if "id" in message:
                result = self._results.pop(message["id"])
                if not result.done():  # otherwise the wait has timed out
                    result.set_result(message)
            elif message["method"] == "Network.requestWillBeSent":
                self.requested.append(parameters["request"]["url"])
            elif message["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                self.errors.append(parameters["entry"]["text"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.errors.append(parameters["exceptionDetails"]["text"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol; return its result."""
        number = next(self._numbers)
        result: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._results[number] = result
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.write_message(json.dumps(message))
        found = await asyncio.wait_for(result, _SECONDS)
        assert "error" not in found, (method, found)
        return dict(found["result"])

    async def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, (expression, found)
        return found["result"].get("value")

    async def wait_for(self, expression: str) -> Any:
        """Wait until the value of an expression is true; return it."""
        async with asyncio.timeout(_SECONDS):
            while not (value := await self.value(expression)):
                await asyncio.sleep(0.02)
        return value

    async def click(self, selector: str, then: str | None = None) -> None:
        """Click an element once it exists, until the expected result exists.

        A page that is still loading may have the element before the element reacts to clicks.
        """
        found, expected = (f"document.querySelector({json.dumps(s)})" for s in (selector, then))
        await self.wait_for(f"!!{found}")
        if then is None:
            await self.value(f"{found}.click()")
            return
        while not await self.value(f"!!{expected}"):
            await self.value(f"{found}?.click()")
            with suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await self.wait_for(f"!!{expected}")

    async def type(self, selector: str, text: str) -> None:
        """Insert text into an input at once, as an input method does."""
        found = f"document.querySelector({json.dumps(selector)})"
        await self.wait_for(f"!!{found}")
        await self.value(f"{found}.focus()")
        await self.call("Input.insertText", text=text)


@asynccontextmanager
async def open_page(chromium: str, folder: Path) -> AsyncIterator[Page]:
    """Yield an empty page of a new browser, which keeps its files in `folder`."""
    browser = subprocess.Popen(
        [chromium, *_FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        connection = await _connect(browser, folder / "DevToolsActivePort")
        page = Page(connection)
        listening = asyncio.create_task(page.listen())
        try:
            for domain in ("Page", "Network", "Log", "Runtime"):
                await page.call(f"{domain}.enable")
            yield page
        finally:
            connection.close()
        await listening
    finally:
        os.killpg(browser.pid, signal.SIGKILL)  # its renderers, too
        browser.wait()


async def _connect(browser: "subprocess.Popen[bytes]", file: Path) -> WebSocketClientConnection:
    """Connect to the browser's open page. The file has the port once the browser listens."""
    async with asyncio.timeout(_SECONDS):
        while not (port := _port(file)):
            assert browser.poll() is None, "Chromium did not start"
            await asyncio.sleep(0.02)
        while True:
            listed = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json/list")
            pages = [target for target in json.loads(listed.body) if target["type"] == "page"]
            if pages:
                return await websocket_connect(
                    pages[0]["webSocketDebuggerUrl"], max_message_size=2**26
                )
            await asyncio.sleep(0.02)


def _port(file: Path) -> str:
    """Return the port on which the browser listens; empty before that."""
    return file.read_text().partition("\n")[0] if file.exists() else ""
