"""Handlers of the admin listener."""

import asyncio
import json
from typing import Any

from tornado.web import RequestHandler

from tornado_members.admin.exposition import render
from tornado_members.admin.status import ServiceStatus
from tornado_members.http.allowed_hosts import AllowedHosts

_TEXT = "text/plain; charset=utf-8"
_ALLOW = "GET, HEAD, OPTIONS"


class AdminHandler(RequestHandler):
    """Base of the admin handlers. No token is required: bind the listener to a private address."""

    def initialize(self, status: ServiceStatus, hosts: AllowedHosts) -> None:
        self.status = status
        self.hosts = hosts

    def prepare(self) -> None:
        """Refuse a request for another host's name, which a web page may have caused."""
        if not self.hosts.allows(self.request.headers.get("Host")):
            self.send_error(421)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", _TEXT)
        self.set_header("X-Content-Type-Options", "nosniff")

    def options(self, *_: str) -> None:
        """Send the methods of the page: proxies probe with OPTIONS by default."""
        self.set_status(204)
        self.clear_header("Content-Type")
        self.set_header("Allow", _ALLOW)

    def compute_etag(self) -> None:
        """Return no ETag: each answer is new."""

    def write_error(self, status_code: int, **_: Any) -> None:
        text = f"{status_code} {self._reason}\n"
        if status_code == 405:
            self.set_header("Allow", _ALLOW)
        elif status_code == 421:
            text += "Use an IP address or localhost, or add the host name to admin.hosts.\n"
        self.finish(text)

    def answer(self, status: int, content: dict[str, Any], text: str) -> None:
        """Send `content` as JSON to clients that accept JSON, else `text`."""
        self.set_status(status)
        self.add_header("Vary", "Accept")
        if "application/json" in self.request.headers.get("Accept", "").lower():
            self.set_header("Content-Type", "application/json")
            text = json.dumps(content)
        self.finish(text.rstrip("\n") + "\n")


class LivezHandler(AdminHandler):
    """/livez"""

    def get(self) -> None:
        """Answer 503 if a restart would help."""
        alive = self.status.is_alive()
        word = "alive" if alive else "stuck"
        self.answer(200 if alive else 503, {"status": word}, word)

    head = get


class ReadyzHandler(AdminHandler):
    """/readyz"""

    def get(self) -> None:
        """Answer 503 if the service cannot serve requests; the body has one line per dependency."""
        report = self.status.report()
        lines = [report.status]
        for dependency in report.dependencies:
            detail = f": {dependency.detail}" if dependency.detail else ""
            lines.append(f"  {dependency.state.name.lower():9} {dependency.name}{detail}")
        self.answer(200 if report.is_ready else 503, report.to_dict(), "\n".join(lines))

    head = get


class MetricsHandler(AdminHandler):
    """/metrics"""

    async def get(self) -> None:
        """Send the metrics in the format that the scraper accepts."""
        accept = self.request.headers.get("Accept", "")
        # In a thread: a service of one process serves its other requests meanwhile.
        text, media_type = await asyncio.to_thread(render, self.status.collect(), accept)
        self.set_header("Content-Type", media_type)
        self.finish(text)

    head = get


class UnknownPathHandler(AdminHandler):
    """Any other path"""

    def prepare(self) -> None:
        super().prepare()
        if not self._finished:
            self.send_error(404)
