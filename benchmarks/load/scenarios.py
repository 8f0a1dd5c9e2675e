"""The requests of each scenario."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MEMBERS = 100_000
HOT = 1000  # members that all callers request
BATCH = 100  # members of a batch, as in requests.lua
PAGE = 50  # members of a page of a list
_FEWEST = 5000


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests of one kind; `kind` is its name in requests.lua."""

    name: str
    title: str
    kind: str
    members: int = HOT
    is_cold: bool = False  # the cache is empty when it begins
    # Documents that MongoDB returns per request of a service with a cache; None if that varies.
    reads: float | None = None
    peers: frozenset[str] | None = None  # those that serve such requests; None for all

    @property
    def writes(self) -> bool:
        """True if members change during the run."""
        return self.kind in ("put", "patch", "mixed")


SCENARIOS = (
    Scenario("hit", f"cached GET of {HOT:,} members", "get", reads=0),
    Scenario("hot", "cached GET of one member", "get", members=1, reads=0),
    Scenario(
        "miss", f"GET of {MEMBERS:,} members, cold cache", "get", MEMBERS, is_cold=True, reads=1
    ),
    Scenario("unchanged", "cached GET with If-None-Match: 304", "unchanged", members=100, reads=0),
    Scenario("pipelined", f"cached GET of {HOT:,} members, 16 at once", "pipelined", reads=0),
    Scenario("name", f"cached GET of {HOT:,} members by name", "name", reads=0, peers=frozenset()),
    Scenario("accept", "cached GET with Accept: application/json, */*", "accept", reads=0),
    Scenario("fresh", "cached GET with Cache-Control: max-age=0", "fresh", reads=0),
    Scenario("origin", "cached GET of a script of another origin", "origin", reads=0),
    Scenario("proxied", "cached GET behind a proxy", "proxied", reads=0),
    Scenario("handler", "cached GET with If-Match, which a handler answers", "handler", reads=0),
    Scenario("put", f"PUT of {HOT:,} members", "put"),
    Scenario(
        "patch",
        f"PATCH of {HOT:,} members",
        "patch",
        peers=frozenset({"fastapi", "tornado"}),
    ),
    Scenario("list", f"list of {PAGE}, each page another one", "page", MEMBERS),
    Scenario(
        "list-by-name",
        f"list of {PAGE} by name, each page another one",
        "page",
        MEMBERS,
        peers=frozenset({"fastapi"}),
    ),
    Scenario(
        "search",
        f"search of {PAGE} in 1 % of the members, each page another one",
        "page",
        MEMBERS,
        peers=frozenset({"fastapi"}),
    ),
    Scenario(
        "batch",
        f"cached batch of {BATCH} of {HOT:,} members",
        "batch",
        reads=0,
        peers=frozenset({"fastapi", "tornado"}),
    ),
    Scenario(
        "batch-wide",
        f"cached batch of {BATCH} of {MEMBERS:,} members",
        "batch",
        MEMBERS,
        reads=0,
        peers=frozenset({"fastapi", "tornado"}),
    ),
    Scenario(
        "lookup",
        f"cached lookup of {BATCH} of {MEMBERS:,} members by POST",
        "lookup",
        MEMBERS,
        reads=0,
        peers=frozenset({"fastapi", "tornado"}),
    ),
    Scenario("mixed", f"95 % GET and 5 % PUT of {HOT:,} members", "mixed"),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@dataclass(frozen=True, slots=True)
class Cell:
    """One table: a scenario with a number of connections and of processes of each server."""

    scenario: Scenario
    connections: int = 32
    processes: int = 1

    @property
    def name(self) -> str:
        """Its name among the saved figures, which are of one process."""
        return f"{self.scenario.name} {self.connections}"

    @property
    def title(self) -> str:
        """The heading of its table."""
        connections = f"{self.connections} connection{'s' * (self.connections > 1)}"
        processes = f"{self.processes} process{'es' * (self.processes > 1)}"
        return f"{self.scenario.title}; {connections}, {processes}"


FULL = (
    *(Cell(scenario) for scenario in SCENARIOS),
    *(Cell(BY_NAME["hit"], connections) for connections in (1, 8, 128, 256)),
    *(Cell(BY_NAME[name], 32, processes=2) for name in ("hit", "miss")),
)


# The runs of docs/performance.md, with the contestants beside the service. They take seven minutes
# in all.
PAGE_RUNS: Mapping[Cell, frozenset[str]] = {
    Cell(BY_NAME[name], connections): frozenset(contestants)
    for name, connections, *contestants in (
        ("hit", 32, "ours-logging", "ours-production", "fastapi", "tornado", "flask", "bare"),
        ("hit", 256, "fastapi", "tornado", "flask"),
        ("pipelined", 32),
        ("unchanged", 32, "fastapi"),
        ("name", 32),
        ("batch", 32, "fastapi", "tornado"),
        ("batch-wide", 32, "fastapi", "tornado"),
        ("lookup", 32, "fastapi", "tornado"),
        ("handler", 32, "ours-memory", "fastapi", "trivial"),
        ("miss", 32, "fastapi", "tornado", "flask"),
        ("list", 32, "fastapi", "tornado", "flask"),
        ("list-by-name", 32, "fastapi"),
        ("search", 32, "fastapi"),
        ("put", 32, "fastapi", "tornado", "flask"),
        ("patch", 32, "fastapi"),
        ("mixed", 32, "fastapi"),
    )
}


def members_for(cells: Sequence[Cell]) -> int:
    """Return the number of members to create: the fewest, because all contestants copy them."""
    return max(_FEWEST, *(cell.scenario.members for cell in cells))
