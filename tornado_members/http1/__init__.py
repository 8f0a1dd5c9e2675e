"""An HTTP/1.1 server for any Tornado application, on asyncio and llhttp.

It takes an application in the way of tornado.httpserver.HTTPServer, and imports nothing else of
the service.
"""

from tornado_members.http1.limits import Limits
from tornado_members.http1.server import HTTPServer

__all__ = ["HTTPServer", "Limits"]
