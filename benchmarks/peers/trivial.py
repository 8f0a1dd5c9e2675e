"""A trivial RequestHandler on the service's HTTP server: the lower bound of any handler."""

import asyncio
import socket
import sys

import uvloop
from bare import BODY
from tornado.web import Application, RequestHandler

from tornado_members.http1 import HTTPServer
from tornado_members.serving.worker import tune_garbage_collection


class TrivialHandler(RequestHandler):
    """Sends the same body to all requests."""

    def get(self, _member_id: str) -> None:
        """Send it."""
        self.set_header("Content-Type", "application/json")
        self.finish(BODY)

    def compute_etag(self) -> None:
        """Return no ETag: Tornado would hash the body."""

    def check_etag_header(self) -> bool:
        """Return False: the response has no ETag."""
        return False


async def main() -> None:
    """Serve until it is killed."""
    routes = [("/members/([^/]+)", TrivialHandler)]
    server = HTTPServer(Application(routes, log_function=lambda _handler: None))
    server.add_socket(socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024))
    tune_garbage_collection()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
