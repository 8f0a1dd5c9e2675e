"""The base of the handlers of public files."""

from collections.abc import Sequence
from typing import Final

from tornado_members.errors import NotFound
from tornado_members.handlers.base import BaseHandler
from tornado_members.http.conditional import matches_etag
from tornado_members.http.encoding import accepts_gzip
from tornado_members.http.static_files import StaticContent
from tornado_members.openapi.operation import Operation, Response

REVALIDATION_HEADERS: Final = ("ETag", "Cache-Control")
NOT_MODIFIED: Final = Response("The caller has the current version", headers=REVALIDATION_HEADERS)
ASSET_CONDITIONS: Final = ("If-None-Match",)


def page_operation(name: str, summary: str, tag: str) -> Operation:
    """Return the declaration of a page."""
    page = Response("The page", {"text/html": {"type": "string"}}, headers=REVALIDATION_HEADERS)
    return Operation(
        name=name,
        summary=summary,
        tag=tag,
        headers=ASSET_CONDITIONS,
        responses={200: page, 304: NOT_MODIFIED},
    )


def file_operation(name: str, summary: str, tag: str, media_types: Sequence[str]) -> Operation:
    """Return the declaration of the files of a page, which have these media types."""
    file = Response(
        "The file",
        {media_type: {"type": "string"} for media_type in media_types},
        headers=REVALIDATION_HEADERS,
        may_have=("Vary", "Content-Encoding"),
    )
    return Operation(
        name=name,
        summary=summary,
        tag=tag,
        headers=ASSET_CONDITIONS,
        responses={200: file, 304: NOT_MODIFIED},
        problems=(NotFound,),
    )


class StaticContentHandler(BaseHandler):
    """Base of handlers for public files that change only with the program."""

    def send_content(self, file: StaticContent) -> None:
        """Send a file that caches may store but must revalidate."""
        accepted = ",".join(self.request.headers.get_list("Accept-Encoding"))
        as_gzip = accepts_gzip(accepted)
        etag = file.etag(as_gzip=as_gzip)
        self.set_header("ETag", etag)
        self.set_header("Cache-Control", "public, no-cache")
        self.add_vary("Accept-Encoding")
        if matches_etag(self.request.headers, etag):
            self.set_status(304)
            self.finish()
            return
        self.set_header("Content-Type", file.media_type)
        if as_gzip:
            self.set_header("Content-Encoding", "gzip")
        self.finish(file.zipped if as_gzip else file.plain)
