"""The description of the API: /openapi.json, and /docs, a page to read it and try it on."""

from typing import Final

from tornado_members.errors import NotFound
from tornado_members.handlers.base import BaseHandler
from tornado_members.http.conditional import names_tag
from tornado_members.http.encoding import accepts_gzip
from tornado_members.http.static_files import Published, find_file
from tornado_members.openapi.operation import JSON, Answer, Operation
from tornado_members.services import Services

# Only scripts, styles and requests of this origin; images are embedded in the style sheet.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_KEPT: Final = ("ETag", "Cache-Control")
_UNCHANGED: Final = Answer("The caller has the current version", headers=_KEPT)
_CONDITIONS: Final = ("If-None-Match",)

FIND_DESCRIPTION: Final = Operation(
    name="findDescription",
    summary="Read this description (OpenAPI 3.1)",
    tag="description",
    headers=_CONDITIONS,
    answers={
        200: Answer(
            "OpenAPI 3.1",
            {JSON: {"type": "object", "required": ["openapi", "info", "paths"]}},
            headers=(*_KEPT, "Vary"),
            may_have=("Content-Encoding",),
        ),
        304: _UNCHANGED,
    },
)
SHOW_PAGE: Final = Operation(
    name="showPage",
    summary="Open a page to read this description and try it",
    tag="description",
    headers=_CONDITIONS,
    answers={
        200: Answer("The page", {"text/html": {"type": "string"}}, headers=_KEPT),
        304: _UNCHANGED,
    },
)
FIND_ASSET: Final = Operation(
    name="findAsset",
    summary="Read a file of the page",
    tag="description",
    headers=_CONDITIONS,
    answers={
        200: Answer(
            "The file",
            {name: {"type": "string"} for name in ("text/css", "text/javascript", "image/png")},
            headers=_KEPT,
            may_have=("Vary", "Content-Encoding"),
        ),
        304: _UNCHANGED,
    },
    problems=(NotFound,),
)


class PublishingHandler(BaseHandler):
    """Base of handlers for public files that change only with the program."""

    def publish(self, file: Published) -> None:
        """Send a file that caches may store but must revalidate."""
        accepted = ",".join(self.request.headers.get_list("Accept-Encoding"))
        as_gzip = accepts_gzip(accepted)
        etag = file.etag(as_gzip=as_gzip)
        self.set_header("ETag", etag)
        self.set_header("Cache-Control", "public, no-cache")
        self.add_vary("Accept-Encoding")
        if names_tag(self.request.headers, etag):
            self.set_status(304)
            self.finish()
            return
        self.set_header("Content-Type", file.media_type)
        if as_gzip:
            self.set_header("Content-Encoding", "gzip")
        self.finish(file.zipped if as_gzip else file.plain)


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
