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

_SECONDS = 30  # for any one thing: it is there to end a test that hangs
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it needs namespaces that containers do not give; the page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """The program; scripts/setup --browser installs it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Page:
    """A page, what it asked the network for, and what it complained of."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """Take what the browser says, until it goes."""
        while (text := await self._connection.read_message()) is not None:
            message = json.loads(text)
            said = message.get("params", {})
            if "id" in message:
                answer = self._answers.pop(message["id"])
                if not answer.done():  # else the wait has timed out
                    answer.set_result(message)
            elif message["method"] == "Network.requestWillBeSent":
                self.requested.append(said["request"]["url"])
            elif message["method"] == "Log.entryAdded" and said["entry"]["level"] == "error":
                self.complaints.append(said["entry"]["text"])
            elif message["method"] == "Runtime.exceptionThrown":
                self.complaints.append(said["exceptionDetails"]["text"])

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and what it gave."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.write_message(json.dumps(message))
        found = await asyncio.wait_for(answer, _SECONDS)
        assert "error" not in found, (method, found)
        return dict(found["result"])

    async def value(self, expression: str) -> Any:
        """Of a JavaScript expression."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, (expression, found)
        return found["result"].get("value")

    async def wait_for(self, expression: str) -> Any:
        """Its value, once that is true."""
        async with asyncio.timeout(_SECONDS):
            while not (value := await self.value(expression)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return value

    async def click(self, selector: str, then: str | None = None) -> None:
        """Click once there is such an element, until there is what the click should bring.

        A page that is still being drawn may have the element and not listen to it yet.
        """
        found, brought = (f"document.querySelector({json.dumps(s)})" for s in (selector, then))
        await self.wait_for(f"!!{found}")
        if then is None:
            await self.value(f"{found}.click()")
            return
        while not await self.value(f"!!{brought}"):
            await self.value(f"{found}?.click()")
            with suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await self.wait_for(f"!!{brought}")

    async def type(self, selector: str, text: str) -> None:
        """Into an input, as keys would."""
        found = f"document.querySelector({json.dumps(selector)})"
        await self.wait_for(f"!!{found}")
        await self.value(f"{found}.focus()")
        await self.call("Input.insertText", text=text)


@asynccontextmanager
async def open_page(chromium: str, folder: Path) -> AsyncIterator[Page]:
    """An empty page of a browser of its own, which keeps what it has to in `folder`."""
    browser = subprocess.Popen(  # noqa: ASYNC220, S603
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
    """To the page that it has open. The file has the port, once it listens."""
    async with asyncio.timeout(_SECONDS):
        while not (port := _port(file)):
            assert browser.poll() is None, "Chromium did not start"
            await asyncio.sleep(0.02)
        while True:
            listed = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/json/list")
            pages = [one for one in json.loads(listed.body) if one["type"] == "page"]
            if pages:
                return await websocket_connect(
                    pages[0]["webSocketDebuggerUrl"], max_message_size=2**26
                )
            await asyncio.sleep(0.02)


def _port(file: Path) -> str:
    """On which the browser listens; nothing as long as it does not."""
    return file.read_text().partition("\n")[0] if file.exists() else ""
