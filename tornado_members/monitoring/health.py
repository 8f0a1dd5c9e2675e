"""Whether the service can do its work: MongoDB, the cache, keys, the change stream.

MongoDB is asked once a second, by one question at a time that takes no longer than any operation
may; whoever asks how it is, is told what is known, at once. All else is known anyway.
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
from dataclasses import asdict, dataclass
from enum import IntEnum
from logging import getLogger
from typing import Any, Self

from tornado_members.auth.keys import KeySource
from tornado_members.cache.invalidator import InvalidatorNumbers
from tornado_members.telemetry.metrics import Family

log = getLogger(__name__)

_LOOK_SECONDS = 1.0
_MONGODB = "mongodb"

# What a reason not to read a node means, for people.
_NODE_WORDS = {
    "node-away": "does not answer; its keys are read from MongoDB",
    "node-back": "answers again, and will be read in a moment",
    "node-tainted": "missed something, and waits for a new epoch",
}


class State(IntEnum):
    """How a dependency is; the worse, the more."""

    OK = 0
    DEGRADED = 1  # slower, or less than all of it, and still right
    UNREADY = 2  # most requests would be a 503


@dataclass(frozen=True, slots=True)
class Finding:
    """A dependency, and how it is."""

    name: str
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How everything is."""

    findings: tuple[Finding, ...]
    draining: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self.draining and all(f.state < State.UNREADY for f in self.findings)

    @property
    def status(self) -> str:
        """In a word."""
        if self.draining:
            return "draining"
        worst = max((finding.state for finding in self.findings), default=State.OK)
        return {State.OK: "ready", State.DEGRADED: "degraded", State.UNREADY: "unready"}[worst]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        dependencies = [
            {**asdict(finding), "state": finding.state.name.lower()} for finding in self.findings
        ]
        return {"status": self.status, "dependencies": dependencies}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The other way."""
        findings = [
            Finding(one["name"], State[one["state"].upper()], one["detail"])
            for one in data["dependencies"]
        ]
        return cls(tuple(findings), draining=data["status"] == "draining")


class Health:
    """What this process knows of what it depends on."""

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        cache_states: Callable[[], Mapping[str, str | None]],
        keys: Mapping[str, KeySource],
        changes: InvalidatorNumbers | None,
    ) -> None:
        """`ping` hears from MongoDB within a time of its own, or raises; `changes`: if followed."""
        self.draining = False
        self._ping = ping
        self._cache_states = cache_states
        self._keys = keys
        self._changes = changes
        self._mongodb = Finding(_MONGODB, State.UNREADY, "was not asked yet")

    def report(self) -> Report:
        """How everything is now, as far as is known."""
        findings = [self._mongodb, *self._of_cache(), *self._of_keys(), *self._of_changes()]
        return Report(tuple(findings), self.draining)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Ask MongoDB, and go on doing so as long as the block lasts."""
        await self._look()
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        try:
            await self._ping()
        except Exception as error:  # noqa: BLE001  # whatever it is, that is how it is
            finding = Finding(_MONGODB, State.UNREADY, f"does not answer ({type(error).__name__})")
        else:
            finding = Finding(_MONGODB, State.OK)
        if finding.state != self._mongodb.state:
            if finding.state == State.OK:
                log.info("MongoDB answers")
            else:
                log.error("MongoDB %s", finding.detail)
        self._mongodb = finding

    def _of_cache(self) -> list[Finding]:
        return [
            Finding(
                f"cache {node}",
                State.DEGRADED if reason else State.OK,
                _NODE_WORDS.get(reason, reason) if reason else "",
            )
            for node, reason in self._cache_states().items()
        ]

    def _of_keys(self) -> list[Finding]:
        """One issuer without keys is its own trouble; all of them are everybody's."""
        states = {issuer: source.state() for issuer, source in self._keys.items()}
        none_has_any = not any(state.count for state in states.values())
        findings = []
        for issuer, state in states.items():
            name = f"keys {issuer}"
            if not state.count:
                worst = State.UNREADY if none_has_any else State.DEGRADED
                findings.append(Finding(name, worst, f"cannot be had: {state.problem}"))
            elif state.problem:
                detail = f"are {state.age:.0f} s old, and serve on: {state.problem}"
                findings.append(Finding(name, State.DEGRADED, detail))
            else:
                findings.append(Finding(name, State.OK))
        return findings

    def _of_changes(self) -> list[Finding]:
        if self._changes is None:
            return []
        problem = self._changes.problem
        if problem:
            return [Finding("change stream", State.DEGRADED, problem)]
        who = "followed here" if self._changes.is_holder else "followed by another process"
        return [Finding("change stream", State.OK, who)]


def health_metrics(report: Report, workers: int) -> Iterator[Family]:
    """The same for those who look at numbers."""
    yield Family(
        "members_ready", "gauge", "1 if requests should be sent here, as /readyz has it."
    ).put(int(report.is_ready))
    yield Family(
        "members_dependency_state",
        "gauge",
        "How a dependency is: 0 well, 1 degraded, 2 away.",
        ("dependency",),
    ).put_all({finding.name: finding.state for finding in report.findings})
    yield Family("members_workers", "gauge", "Processes that serve requests.").put(workers)


def merge_reports(reports: Mapping[str, Report], further: Iterable[Finding] = ()) -> Report:
    """The reports of several workers, by their names, as one.

    A dependency is as well as most need it: unready only if it is that for every worker.
    """
    names = dict.fromkeys(f.name for report in reports.values() for f in report.findings)
    findings = [_merge([_find(name, report) for report in reports.values()]) for name in names]
    draining = bool(reports) and all(report.draining for report in reports.values())
    return Report((*findings, *further), draining)


def _find(name: str, report: Report) -> Finding | None:
    return next((finding for finding in report.findings if finding.name == name), None)


def _merge(given: Sequence[Finding | None]) -> Finding:
    found = [finding for finding in given if finding]
    worst = max(found, key=lambda finding: finding.state)
    best = min(finding.state for finding in found)
    if worst.state in (best, State.DEGRADED):
        return worst
    few = sum(finding.state == State.UNREADY for finding in found)
    return Finding(worst.name, State.DEGRADED, f"for {few} of {len(found)} workers: {worst.detail}")
