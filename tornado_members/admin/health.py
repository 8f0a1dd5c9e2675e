"""The health of the service: MongoDB, the cache, keys, the change stream, lists.

The monitor writes a document to MongoDB if no write of this process was acknowledged for about a
second, and pings it if no command was acknowledged for a second. At most one of each is in
progress, with the timeout of any operation. A report uses the last results and never waits. The
other dependencies record their own state.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from logging import getLogger
from typing import Any, Self

from tornado_members.admin.watchdog import Watchdog
from tornado_members.auth.keys import KeySource
from tornado_members.invalidator import InvalidatorStatus
from tornado_members.storage.outages import describe_failure
from tornado_members.telemetry.metrics import Family

log = getLogger(__name__)

_CHECK_SECONDS = 1.0  # between two commands that MongoDB must acknowledge
_WRITE_SECONDS = 0.95  # between two writes: before a ping is due, which they replace
_MONGODB = "mongodb"

# Explanations of the reasons to bypass a node.
_BYPASS_DETAILS = {
    "node-unavailable": "does not respond; its keys are read from MongoDB",
    "node-recovering": "responds again; reads resume shortly",
    "node-stale": "missed an invalidation; is read after a new epoch",
    "node-flush-pending": "missed an invalidation of another process; is read after a new epoch",
    "other-server-list": "was used by another list of servers; is read after a new epoch",
    "server-list-changing": "is not read until all processes use the new list of servers",
}


class State(IntEnum):
    """The state of a dependency; a higher value is worse."""

    OK = 0
    DEGRADED = 1  # slower or incomplete, but correct
    UNREADY = 2  # most requests would receive 503


_STATE_NAMES = {state: state.name.lower() for state in State}


@dataclass(frozen=True, slots=True)
class DependencyStatus:
    """A dependency and its state."""

    name: str
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The states of all dependencies."""

    dependencies: tuple[DependencyStatus, ...]
    draining: bool = False

    @property
    def is_ready(self) -> bool:
        """True if load balancers may send requests here."""
        return not self.draining and all(d.state < State.UNREADY for d in self.dependencies)

    @property
    def status(self) -> str:
        """The overall state in one word."""
        if self.draining:
            return "draining"
        worst = max((dependency.state for dependency in self.dependencies), default=State.OK)
        return {State.OK: "ready", State.DEGRADED: "degraded", State.UNREADY: "unready"}[worst]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a JSON-compatible object."""
        dependencies = [
            {
                "name": dependency.name,
                "state": _STATE_NAMES[dependency.state],
                "detail": dependency.detail,
            }
            for dependency in self.dependencies
        ]
        return {"status": self.status, "dependencies": dependencies}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a report from the result of to_dict()."""
        dependencies = [
            DependencyStatus(
                dependency["name"], State[dependency["state"].upper()], dependency["detail"]
            )
            for dependency in data["dependencies"]
        ]
        return cls(tuple(dependencies), draining=data["status"] == "draining")


class HealthMonitor:
    """Tracks the state of each dependency of this process."""

    def __init__(  # noqa: PLR0917  # one function for each dependency
        self,
        ping: Callable[[], Awaitable[None]],
        write: Callable[[], Awaitable[None]],
        cache_states: Callable[[], Mapping[str, str | None]],
        server_list_conflict: Callable[[], str | None],
        keys: Mapping[str, KeySource],
        changes: InvalidatorStatus | None,
        lists: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`ping` and `write` raise if MongoDB fails; `changes` is None if not followed.

        `lists` returns what is left to prepare, if anything is.
        """
        self.draining = False
        self._ping = ping
        self._write = write
        self._write_problem: str | None = None
        self._cache_states = cache_states
        self._server_list_conflict = server_list_conflict
        self._keys = keys
        self._changes = changes
        self._lists = lists
        self._mongodb = DependencyStatus(_MONGODB, State.UNREADY, "was not pinged yet")
        self._writes = Watchdog(_WRITE_SECONDS, self._write_to_mongodb)
        self._pings = Watchdog(_CHECK_SECONDS, self._ping_mongodb)

    def report(self) -> HealthReport:
        """Return the present state of each dependency."""
        mongodb = self._mongodb_status()
        dependencies = [mongodb, *self._cache(), *self._issuers(), *self._change_stream()]
        return HealthReport((*dependencies, self._lists_status()), self.draining)

    @asynccontextmanager
    async def monitoring(self) -> AsyncIterator[None]:
        """Ping MongoDB now, and check it periodically while the block lasts."""
        await self._ping_mongodb()
        async with self._pings.watching(), self._writes.watching():
            yield

    async def _write_to_mongodb(self) -> None:
        began = asyncio.get_running_loop().time()
        try:
            await self._write()
        except Exception as error:  # noqa: BLE001  # any error means the same here
            reason = describe_failure(error)
            problem = "they time out" if reason == "does not answer" else reason
            self._writes.postpone(asyncio.get_running_loop().time())
            self._note_writes(problem)
        else:
            self.note_write(began)

    def note_write(self, began: float) -> None:
        """Record that MongoDB acknowledged a write. `began` is its start, by the loop's clock."""
        self._writes.postpone(began)
        self._pings.postpone(began)
        self._note(DependencyStatus(_MONGODB, State.OK))
        self._note_writes(None)

    def _note_writes(self, problem: str | None) -> None:
        if bool(problem) != bool(self._write_problem) and self._mongodb.state == State.OK:
            if problem:
                log.error("MongoDB accepts no writes: %s", problem)
            else:
                log.info("MongoDB accepts writes")
        self._write_problem = problem

    def _mongodb_status(self) -> DependencyStatus:
        if self._mongodb.state != State.OK or self._write_problem is None:
            return self._mongodb
        detail = f"accepts no writes: {self._write_problem}"
        return DependencyStatus(_MONGODB, State.DEGRADED, detail)

    async def _ping_mongodb(self) -> None:
        try:
            await self._ping()
        except Exception as error:  # noqa: BLE001  # any error means the same here
            detail = f"does not respond ({type(error.__cause__ or error).__name__})"
            status = DependencyStatus(_MONGODB, State.UNREADY, detail)
        else:
            status = DependencyStatus(_MONGODB, State.OK)
        self._pings.postpone(asyncio.get_running_loop().time())
        self._note(status)

    def _note(self, status: DependencyStatus) -> None:
        if status.state != self._mongodb.state:
            if status.state == State.OK:
                log.info("MongoDB responds")
            else:
                log.error("MongoDB %s", status.detail)
        self._mongodb = status

    def _cache(self) -> list[DependencyStatus]:
        conflict = self._server_list_conflict()
        statuses = [DependencyStatus("cache servers", State.DEGRADED, conflict)] if conflict else []
        return statuses + [
            DependencyStatus(
                f"cache {node}",
                State.DEGRADED if reason else State.OK,
                _BYPASS_DETAILS.get(reason, reason) if reason else "",
            )
            for node, reason in self._cache_states().items()
        ]

    def _issuers(self) -> list[DependencyStatus]:
        """Return the states of the issuers' keys.

        One issuer without keys degrades the service. It is unready if all issuers lack keys.
        """
        states = {issuer: source.state() for issuer, source in self._keys.items()}
        all_lack_keys = not any(state.count for state in states.values())
        statuses = []
        for issuer, state in states.items():
            name = f"keys {issuer}"
            if not state.count:
                worst = State.UNREADY if all_lack_keys else State.DEGRADED
                statuses.append(
                    DependencyStatus(name, worst, f"are not available: {state.problem}")
                )
            elif state.problem:
                detail = f"are {state.age:.0f} s old and still used: {state.problem}"
                statuses.append(DependencyStatus(name, State.DEGRADED, detail))
            elif state.left_out:
                statuses.append(DependencyStatus(name, State.DEGRADED, state.left_out))
            else:
                statuses.append(DependencyStatus(name, State.OK))
        return statuses

    def _change_stream(self) -> list[DependencyStatus]:
        if self._changes is None:
            return []
        problem = self._changes.current_problem()
        if problem:
            return [DependencyStatus("change stream", State.DEGRADED, problem)]
        detail = "followed here" if self._changes.is_leader else "followed by another process"
        return [DependencyStatus("change stream", State.OK, detail)]

    def _lists_status(self) -> DependencyStatus:
        detail = self._lists()
        return DependencyStatus("lists", State.DEGRADED if detail else State.OK, detail or "")


def health_metrics(report: HealthReport, workers: int) -> Iterator[Family]:
    """Yield the report as metrics."""
    yield Family("members_ready", "gauge", "1 if the service is ready, as in /readyz.").put(
        int(report.is_ready)
    )
    is_writable = all(d.state == State.OK for d in report.dependencies if d.name == _MONGODB)
    yield Family("members_writable", "gauge", "1 if MongoDB accepts writes.").put(int(is_writable))
    yield Family(
        "members_dependency_state",
        "gauge",
        "State of a dependency: 0 ok, 1 degraded, 2 unready.",
        ("dependency",),
    ).put_all({dependency.name: dependency.state for dependency in report.dependencies})
    yield Family("members_workers", "gauge", "Worker processes.").put(workers)


def merge_reports(
    reports: Mapping[str, HealthReport], further: Iterable[DependencyStatus] = ()
) -> HealthReport:
    """Merge the reports of several workers, by worker name.

    A dependency is unready only if it is unready for every worker.
    """
    names = dict.fromkeys(d.name for report in reports.values() for d in report.dependencies)
    merged = [_merge([_find(name, report) for report in reports.values()]) for name in names]
    draining = bool(reports) and all(report.draining for report in reports.values())
    return HealthReport((*merged, *further), draining)


def _find(name: str, report: HealthReport) -> DependencyStatus | None:
    return next((status for status in report.dependencies if status.name == name), None)


def _merge(reports: Sequence[DependencyStatus | None]) -> DependencyStatus:
    statuses = [status for status in reports if status]
    worst = max(statuses, key=lambda status: status.state)
    best = min(status.state for status in statuses)
    if worst.state in (best, State.DEGRADED):
        return worst
    unready = sum(status.state == State.UNREADY for status in statuses)
    detail = f"for {unready} of {len(statuses)} workers: {worst.detail}"
    return DependencyStatus(worst.name, State.DEGRADED, detail)
