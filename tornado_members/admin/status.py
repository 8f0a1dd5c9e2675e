"""The status of a service: its health and its metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from tornado_members.admin.exposition import merge
from tornado_members.admin.health import HealthMonitor, HealthReport, health_metrics
from tornado_members.admin.metrics import Metrics
from tornado_members.admin.process import LoopLag
from tornado_members.services import Services
from tornado_members.storage.mongo_probe import MongoProbe
from tornado_members.telemetry.metrics import Family


class ServiceStatus(Protocol):
    """The status that the admin listener shows."""

    def report(self) -> HealthReport:
        """Return the health of the service."""

    def collect(self) -> list[Family]:
        """Return every metric."""

    def is_alive(self) -> bool:
        """Return False if a restart would help."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """The status of a service that is one process."""

    health: HealthMonitor
    metrics: Metrics
    name: str = "1"  # of the worker

    def report(self) -> HealthReport:
        """Return the health of this process."""
        return self.health.report()

    def collect(self) -> list[Family]:
        """Return every metric of this process."""
        return [*health_metrics(self.report(), 1), *merge({self.name: self.metrics.collect()})]

    def is_alive(self) -> bool:
        """Return True: the process that answers is alive."""
        return True


@asynccontextmanager
async def open_process_status(services: Services) -> AsyncIterator[ProcessStatus]:
    """Monitor this process while the block lasts."""
    dependencies, lag = services.dependencies, LoopLag()
    changes = dependencies.change_stream if dependencies.follows_changes else None
    probe = MongoProbe(dependencies.mongo)
    health = HealthMonitor(
        probe.ping,
        probe.write,
        services.directory.cache_states,
        services.directory.server_list_conflict,
        dependencies.keys,
        changes,
        dependencies.lists.detail,
    )
    dependencies.mongo.write_listeners.append(health.note_write)
    async with lag.measuring(), health.monitoring():
        yield ProcessStatus(health, Metrics(services, lag))
