"""The description of the API: /openapi.json, and the page /docs, which shows it."""

from typing import Final

from tornado_members.handlers.publishing import (
    ASSET_CONDITIONS,
    KEPT,
    UNCHANGED,
    PublishingHandler,
    file_operation,
    page_operation,
)
from tornado_members.http.static_files import Published, find_file
from tornado_members.openapi.operation import JSON, Answer, Operation
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
    answers={
        200: Answer(
            "OpenAPI 3.1",
            {JSON: {"type": "object", "required": ["openapi", "info", "paths"]}},
            headers=(*KEPT, "Vary"),
            may_have=("Content-Encoding",),
        ),
        304: UNCHANGED,
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


class OpenApiHandler(PublishingHandler):
    """/openapi.json"""

    route = "/openapi.json"
    operations = {"GET": FIND_DESCRIPTION, "HEAD": FIND_DESCRIPTION}

    def initialize(self, services: Services, *, document: Published) -> None:  # type: ignore[override]
        super().initialize(services)
        self.document = document

    async def get(self) -> None:
        """Send the OpenAPI description."""
        self.publish(self.document)

    head = get


class DocsHandler(PublishingHandler):
    """/docs"""

    route = "/docs"
    operations = {"GET": SHOW_PAGE, "HEAD": SHOW_PAGE}

    async def get(self) -> None:
        """Send the page."""
        self.set_header("Content-Security-Policy", _PAGE_POLICY)
        self.publish(await find_file("docs.html"))

    head = get


class DocsFileHandler(PublishingHandler):
    """/docs/{file}"""

    route = "/docs/{file}"
    operations = {"GET": FIND_ASSET, "HEAD": FIND_ASSET}

    async def get(self, name: str) -> None:
        """Send a file of the page."""
        self.publish(await find_file(name))

    head = get
