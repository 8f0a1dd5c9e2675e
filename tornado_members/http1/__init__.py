"""An HTTP/1.1 server for any Tornado application, on asyncio and llhttp.

It serves an application as tornado.httpserver.HTTPServer does, and imports nothing else of the
service.
"""

from tornado_members.http1.limits import Limits
from tornado_members.http1.server import HTTPServer

__all__ = ["HTTPServer", "Limits"]
