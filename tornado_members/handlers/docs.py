"""The description of the API: /openapi.json, and /docs, a page to read it and try it on."""

from typing import Final

from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.operations import FIND_ASSET, FIND_DESCRIPTION, SHOW_PAGE
from tornado_members.http.conditional import names_tag
from tornado_members.http.encoding import accepts_gzip
from tornado_members.http.static_files import Published, find_file
from tornado_members.services import Services

# Scripts and styles of ours alone, and requests to us alone; the pictures are in the style sheet.
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PublishingHandler(BaseHandler):
    """What is there for everybody, and changes with the program only."""

    def publish(self, file: Published) -> None:
        """It may be kept, and has to be asked for again: a 304 costs little, an old script much."""
        accepted = ",".join(self.request.headers.get_list("Accept-Encoding"))
        as_gzip = accepts_gzip(accepted)
        etag = file.etag(as_gzip=as_gzip)
        self.set_header("ETag", etag)
        self.set_header("Cache-Control", "public, no-cache")
        self.add_header("Vary", "Accept-Encoding")
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
        """The description of this API in OpenAPI 3.1."""
        self.publish(self.document)

    head = get


class DocsHandler(PublishingHandler):
    """/docs"""

    route = "/docs"
    operations = {"GET": SHOW_PAGE, "HEAD": SHOW_PAGE}

    async def get(self) -> None:
        """A page to read this and to try it on."""
        self.set_header("Content-Security-Policy", _PAGE_POLICY)
        self.publish(await find_file("docs.html"))

    head = get


class DocsFileHandler(PublishingHandler):
    """/docs/{file}"""

    route = "/docs/{file}"
    operations = {"GET": FIND_ASSET, "HEAD": FIND_ASSET}

    async def get(self, name: str) -> None:
        """A file that the page needs."""
        self.publish(await find_file(name))

    head = get
