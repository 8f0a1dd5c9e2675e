"""The tables of docs/performance.md, from saved figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Saved = Mapping[str, Any]

_PEERS: Final = {"fastapi": "FastAPI", "tornado": "plain Tornado", "flask": "Flask"}
_SCENARIOS: Final = {
    "hit 32": "cached read",
    "hit 256": "cached read, 256 connections",
    "unchanged 32": "cached read with `If-None-Match`: 304",
    "batch 32": "cached batch of 100, of 1,000 members",
    "batch-wide 32": "cached batch of 100, of 100,000 members",
    "lookup 32": "the same by `POST /members/lookup`",
    "handler 32": "cached read with `If-Match`, by a handler",
    "miss 32": "uncached read",
    "list 32": "list of 50 by id",
    "list-by-name 32": "list of 50 by name",
    "search 32": "search of 50 in 1 % of the members",
    "put 32": "`PUT`",
    "patch 32": "`PATCH`",
    "mixed 32": "95 % cached reads, 5 % `PUT`",
}
# A cell, a contestant (None is the service with its defaults), and the title of the row.
_CACHED: Final = (
    ("hit 32", None, "cached read by id"),
    ("hit 256", None, "with 256 connections"),
    ("pipelined 32", None, "16 requests pipelined"),
    ("unchanged 32", None, "304 for `If-None-Match`"),
    ("name 32", None, "by name"),
    ("hit 32", "ours-logging", "with the access log"),
    ("hit 32", "ours-production", "with CORS, a rate limit and 1 % of traces"),
    ("handler 32", None, "with `If-Match`, by a handler"),
    ("handler 32", "ours-memory", "the same with a cache in its own memory"),
    ("handler 32", "trivial", "a `RequestHandler` that does nothing, on the same HTTP server"),
    ("hit 32", "bare", "a protocol without an application on uvloop"),
    ("hit 32", "fastapi", "FastAPI"),
)
# The order of the rows.
_TRANSFERS: Final = (
    "import of CSV",
    "import of members that exist",
    "`insert_many` of the same documents by the driver alone",
    "export as NDJSON",
    "export as CSV",
    "export as CSV, gzip",
    "`find` of the same fields by the driver alone",
)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = "|".join(["---", *("--:" for _ in head[1:])])
    lines = [" | ".join(head), *(" | ".join(row) for row in rows)]
    first, *rest = (f"| {line} |" for line in lines)
    return "\n".join([first, f"|{rule}|", *rest])


def _ours(cell: Saved) -> Saved:
    found: Saved = next(iter(cell.values()))
    return found


def ratios(saved: Saved) -> str:
    """Return requests per second in multiples of the peers', and processor time of FastAPI's."""
    rows = []
    for name, title in _SCENARIOS.items():
        if (cell := saved["serve"].get(name)) is None:
            continue
        peers = [cell[peer]["ratio"] if peer in cell else None for peer in _PEERS]
        by_cpu = cell["fastapi"]["cpu_us"] / _ours(cell)["cpu_us"]
        first, *others = ["" if ratio is None else f"{ratio:.1f} x" for ratio in peers]
        rows.append((title, first, f"{by_cpu:.1f} x", *others))
    first, *others = _PEERS.values()
    return _markdown(("", first, f"{first}, by processor time", *others), rows)


def scenarios(saved: Saved) -> str:
    """Return the figures of the service and of FastAPI."""
    rows = []
    for name, title in _SCENARIOS.items():
        if (cell := saved["serve"].get(name)) is None:
            continue
        row = [title]
        for figures in (_ours(cell), cell["fastapi"]):
            p99 = (
                f"{figures['p99_ms']:.1f}"
                if figures["p99_ms"] < 100
                else f"{figures['p99_ms']:.0f}"
            )
            row += [f"{figures['rate']:,.0f} ± {figures['spread'] / 2:.0%}"]
            row += [f"{figures['p50_ms']:.1f}, {p99}", f"{figures['cpu_us']:,.0f}"]
        rows.append(row)
    columns = ("req/s", "p50, p99 ms", "CPU µs")
    return _markdown(("", *columns, *(f"FastAPI: {column}" for column in columns)), rows)


def cached_reads(saved: Saved) -> str:
    """Return the processor time of cached reads of several kinds, and of their lower bounds."""
    rows, plain = [], None
    for name, contestant, title in _CACHED:
        cell = saved["serve"].get(name, {})
        figures = cell.get(contestant) if contestant else next(iter(cell.values()), None)
        if figures is not None:
            plain = plain or figures["cpu_us"]
            rows.append((title, f"{figures['cpu_us']:.0f}", f"{figures['cpu_us'] / plain:.1f} x"))
    return _markdown(("processor time per request", "µs", "of a cached read"), rows)


_SIZES: Final = ("rss_mib", "pss_mib")


def worker(saved: Saved) -> str:
    """Return the memory of a worker at rest and after load, and its idle processor time."""
    rows = [
        (f"{workers} worker{'s' * (workers != '1')}", *_worker(one))
        for workers, one in saved["worker"].items()
    ]
    head = ("", "resident", "PSS", "resident after load", "PSS after load", "idle, of a core")
    return _markdown(head, rows)


def _worker(one: Saved) -> Sequence[str]:
    sizes = [one[when][size] for when in ("at_rest", "after_load") for size in _SIZES]
    return *(f"{mib:.0f} MiB" for mib in sizes), f"{one['idle']:.2%}"


def pythons(saved: Saved) -> str:
    """Return the processor time per request on each version of Python."""
    rows = []
    for name, costs in saved["pythons"].items():
        (_, first), *others = costs.items()
        cells = [f"{first:.0f} µs", *(f"{us:.0f} µs, {us / first:.2f} x" for _, us in others)]
        rows.append((_SCENARIOS[f"{name} 32"], *cells))
    versions = next(iter(saved["pythons"].values()))
    return _markdown(("", *(f"Python {version}" for version in versions)), rows)


def growth(saved: Saved) -> str:
    """Return the cost of each kind of request over the number of members."""
    columns = saved["growth"]
    rows = []
    for title in next(iter(columns.values())):
        costs = [column[title] for column in columns.values()]
        rows.append(
            (
                title,
                *(f"{cost['latency'] * 1e3:.1f} ms" for cost in costs),
                *(f"{cost['keys']:,.0f} + {cost['documents']:,.0f}" for cost in costs),
            )
        )
    sizes = [f"{int(size):,}" for size in columns]
    return _markdown(("one at a time", *sizes, *(f"read, {size}" for size in sizes)), rows)


def transfer(saved: Saved) -> str:
    """Return the cost of imports and exports, beside the driver alone."""
    rows = []
    for title in (title for title in _TRANSFERS if title in saved["transfer"]):
        one = saved["transfer"][title]
        memory = f"{one['before_mib']:.0f}, {one['peak_mib']:.0f} MiB" if one["peak_mib"] else ""
        rate = one["rows"] / one["seconds"]
        cpu = one["cpu"] / one["rows"] * 1e6
        rows.append((title, f"{one['seconds']:.1f} s", f"{rate:,.0f}", f"{cpu:.1f} µs", memory))
    return _markdown(("", "time", "rows/s", "processor time per row", "memory before, peak"), rows)


def layers(saved: Saved) -> str:
    """Return the processor time of a cached read by layer."""
    costs: Mapping[str, float] = saved["profile"]["layers"]
    total = sum(costs.values())
    rows = [(name, f"{cost:.1f}", f"{cost / total:.0%}") for name, cost in costs.items()]
    return _markdown(("layer", "µs per request", "share"), rows)
