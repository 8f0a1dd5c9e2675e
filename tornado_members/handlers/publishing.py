"""The base of the handlers of public files."""

from typing import Final

from tornado_members.handlers.base import BaseHandler
from tornado_members.http.conditional import names_tag
from tornado_members.http.encoding import accepts_gzip
from tornado_members.http.static_files import Published
from tornado_members.openapi.operation import Answer

KEPT: Final = ("ETag", "Cache-Control")
UNCHANGED: Final = Answer("The caller has the current version", headers=KEPT)
ASSET_CONDITIONS: Final = ("If-None-Match",)


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
