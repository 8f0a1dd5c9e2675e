"""The console: a page to manage members. Its files are in console/."""

from typing import Final

from tornado_members.handlers.static_content import (
    StaticContentHandler,
    file_operation,
    page_operation,
)
from tornado_members.http.static_files import find_console_file, find_console_page
from tornado_members.services import Services

# Files and requests of this origin only. Trusted Types without a policy: no text becomes markup.
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

SHOW_CONSOLE: Final = page_operation("showConsole", "Open a page to manage members", "console")
FIND_CONSOLE_FILE: Final = file_operation(
    "findConsoleFile",
    "Read a file of the console",
    "console",
    ("text/css", "text/javascript", "image/svg+xml"),
)


class ConsoleHandler(StaticContentHandler):
    """/console"""

    route = "/console"
    operations = {"GET": SHOW_CONSOLE, "HEAD": SHOW_CONSOLE}

    def initialize(self, services: Services, *, title: str) -> None:  # type: ignore[override]
        super().initialize(services)
        self.title = title

    async def get(self) -> None:
        """Send the page."""
        self.set_headers(PAGE_HEADERS)
        self.send_content(await find_console_page(self.title))

    head = get


class ConsoleFileHandler(StaticContentHandler):
    """/console/{asset}"""

    route = "/console/{asset}"
    operations = {"GET": FIND_CONSOLE_FILE, "HEAD": FIND_CONSOLE_FILE}

    async def get(self, name: str) -> None:
        """Send a file of the page."""
        self.send_content(await find_console_file(name))

    head = get
