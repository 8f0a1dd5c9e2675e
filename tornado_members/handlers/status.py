"""The status of the service, for the status page of the console."""

import json
from collections.abc import Callable
from typing import Any, Final

from tornado_members.auth.permissions import DELETE
from tornado_members.errors import DependencyUnavailable
from tornado_members.handlers.base import BaseHandler
from tornado_members.openapi.operation import JSON, Operation, Response
from tornado_members.openapi.schemas import reference
from tornado_members.services import Services

# Returns the current status, or None if none is known yet.
StatusSource = Callable[[], dict[str, Any] | None]

_EXAMPLE: Final = {
    "status": "ready",
    "dependencies": [{"name": "mongodb", "state": "ok", "detail": ""}],
    "workers": 2,
    "requests": {"bounds": [0.001, 0.1], "durations": [120, 30, 1]},
    "cache": {"hit": 90, "miss": 10, "bypass": 0},
}

FIND_STATUS: Final = Operation(
    name="findStatus",
    summary="Read the health of the service, and totals of its requests",
    tag="console",
    permission=DELETE,
    responses={
        200: Response(
            "The status, at most two seconds old",
            {JSON: reference("Status")},
            {JSON: _EXAMPLE},
            headers=("Cache-Control",),
        )
    },
    problems=(DependencyUnavailable,),
    description="The status is 200 also if the service is not ready. The totals count the requests "
    "of all workers since the service started.",
)


class StatusHandler(BaseHandler):
    """/status"""

    route = "/status"
    operations = {"GET": FIND_STATUS, "HEAD": FIND_STATUS}

    def initialize(self, services: Services, *, status: StatusSource) -> None:  # type: ignore[override]
        super().initialize(services)
        self.status = status

    async def get(self) -> None:
        """Send the status."""
        status = self.status()
        if status is None:
            raise DependencyUnavailable("The status has not been collected yet.")
        self.set_header("Content-Type", JSON)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(status))

    head = get
