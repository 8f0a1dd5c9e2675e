"""The description of the API: /openapi.json, and the page /docs, which shows it."""

import asyncio
from collections.abc import Callable
from typing import Final

from tornado_members.handlers.static_content import (
    ASSET_CONDITIONS,
    NOT_MODIFIED,
    REVALIDATION_HEADERS,
    StaticContentHandler,
    file_operation,
    page_operation,
)
from tornado_members.http.static_files import StaticContent, find_file
from tornado_members.openapi.operation import JSON, Operation, Response
from tornado_members.services import Services

# Only scripts, styles and requests of this origin; images are embedded in the style sheet.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

FIND_DESCRIPTION: Final = Operation(
    name="findDescription",
    summary="Read this description (OpenAPI 3.1)",
    tag="description",
    headers=ASSET_CONDITIONS,
    responses={
        200: Response(
            "OpenAPI 3.1",
            {JSON: {"type": "object", "required": ["openapi", "info", "paths"]}},
            headers=(*REVALIDATION_HEADERS, "Vary"),
            may_have=("Content-Encoding",),
        ),
        304: NOT_MODIFIED,
    },
)
SHOW_PAGE: Final = page_operation(
    "showPage", "Open a page to read this description and try it", "description"
)
FIND_ASSET: Final = file_operation(
    "findAsset",
    "Read a file of the page",
    "description",
    ("text/css", "text/javascript", "image/png"),
)


class OpenApiHandler(StaticContentHandler):
    """/openapi.json"""

    route = "/openapi.json"
    operations = {"GET": FIND_DESCRIPTION, "HEAD": FIND_DESCRIPTION}

    def initialize(  # type: ignore[override]
        self, services: Services, *, document: Callable[[], StaticContent]
    ) -> None:
        super().initialize(services)
        self._document = document

    async def get(self) -> None:
        """Send the OpenAPI description."""
        self.send_content(await asyncio.to_thread(self._document))

    head = get


class DocsHandler(StaticContentHandler):
    """/docs"""

    route = "/docs"
    operations = {"GET": SHOW_PAGE, "HEAD": SHOW_PAGE}

    async def get(self) -> None:
        """Send the page."""
        self.set_header("Content-Security-Policy", _PAGE_POLICY)
        self.send_content(await find_file("docs.html"))

    head = get


class DocsFileHandler(StaticContentHandler):
    """/docs/{file}"""

    route = "/docs/{file}"
    operations = {"GET": FIND_ASSET, "HEAD": FIND_ASSET}

    async def get(self, name: str) -> None:
        """Send a file of the page."""
        self.send_content(await find_file(name))

    head = get
