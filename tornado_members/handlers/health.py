"""The admin listener: probes and metrics, for machines and people on the inside."""

import asyncio
import json
from typing import Any

from tornado.web import RequestHandler

from tornado_members.monitoring.board import Overview
from tornado_members.monitoring.exposition import render

_TEXT = "text/plain; charset=utf-8"


class AdminHandler(RequestHandler):
    """No token is asked for: who can reach the listener may see what it shows."""

    def initialize(self, overview: Overview) -> None:
        self.overview = overview

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", _TEXT)
        self.set_header("X-Content-Type-Options", "nosniff")

    def compute_etag(self) -> None:
        """No: whoever asks wants to know."""

    def write_error(self, status_code: int, **_: Any) -> None:
        if status_code == 405:
            self.set_header("Allow", "GET, HEAD")
        self.finish(f"{status_code} {self._reason}\n")

    def answer(self, status: int, said: dict[str, Any], text: str) -> None:
        """JSON for those who ask for it, else text."""
        self.set_status(status)
        self.add_header("Vary", "Accept")
        if "application/json" in self.request.headers.get("Accept", "").lower():
            self.set_header("Content-Type", "application/json")
            text = json.dumps(said)
        self.finish(text.rstrip("\n") + "\n")


class LivezHandler(AdminHandler):
    """/livez"""

    def get(self) -> None:
        """Whether a restart would not help."""
        alive = self.overview.is_alive()
        word = "alive" if alive else "stuck"
        self.answer(200 if alive else 503, {"status": word}, word)

    head = get


class ReadyzHandler(AdminHandler):
    """/readyz"""

    def get(self) -> None:
        """Whether requests should come, and a line a dependency."""
        report = self.overview.report()
        lines = [report.status]
        for finding in report.findings:
            detail = f": {finding.detail}" if finding.detail else ""
            lines.append(f"  {finding.state.name.lower():9} {finding.name}{detail}")
        self.answer(200 if report.is_ready else 503, report.to_dict(), "\n".join(lines))

    head = get


class MetricsHandler(AdminHandler):
    """/metrics"""

    async def get(self) -> None:
        """What Prometheus scrapes."""
        accept = self.request.headers.get("Accept", "")
        # In a thread: where there is one process only, others wait for its loop.
        text, media_type = await asyncio.to_thread(render, self.overview.collect(), accept)
        self.set_header("Content-Type", media_type)
        self.finish(text)

    head = get
