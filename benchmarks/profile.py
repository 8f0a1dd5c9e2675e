"""The processor time of a request by layer, sampled by py-spy under load."""

import os
import re
import signal
import subprocess
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.load import saved
from benchmarks.load.bed import Bed, make_bed, share_cores
from benchmarks.load.contestants import (
    PEERS_VENV,
    Contestant,
    Running,
    forms_of_ours,
    peers,
    running,
)
from benchmarks.load.rounds import Track
from benchmarks.load.scenarios import BY_NAME, Cell, members_for

SAMPLES_PER_SECOND = 150
_SAVED_LAYERS = 8
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(:(?P<line>\d+))?\)")

# Waiting threads, which py-spy sometimes takes for busy ones.
_WAITING = re.compile(
    r"threading.py|concurrent/futures/thread.py|pymongo/(network_layer|periodic_executor).py"
    r"|lease_cache/heartbeat.py"
)

# A sample belongs to the layer of its innermost frame that has one, so a library without a layer
# (hashlib, re, tornado.httputil) counts for its caller.
LAYERS = (
    ("Tornado: streams and HTTP/1", r"tornado/(iostream|http1connection|httpserver|tcpserver)"),
    ("Tornado: routes and handlers", r"tornado/(web|routing|ioloop|gen|concurrent|locks)"),
    ("ours: http1", r"tornado_members/http1/"),
    ("ours: auth", r"tornado_members/auth/"),
    ("ours: cache", r"tornado_members/lease_cache/"),
    ("aiomcache", r"aiomcache/"),
    ("ours: handlers", r"tornado_members/(handlers|http/|app)"),
    ("ours: directory and members", r"tornado_members/(directory|model)"),
    ("ours: logs and counts", r"tornado_members/(telemetry|admin|serving)"),
    ("ours: storage", r"tornado_members/storage/"),
    ("MongoDB's driver", r"(motor|pymongo|bson|gridfs)/"),
    ("JWT", r"jwt/"),
    ("uvicorn", r"uvicorn/"),
    ("Starlette", r"starlette/"),
    ("FastAPI", r"fastapi/"),
    ("Flask and Werkzeug", r"(flask|werkzeug)/"),
    ("gunicorn", r"gunicorn/"),
    ("asyncio: streams and sockets", r"asyncio/(streams|selector_events|transports|protocols)"),
    ("asyncio: loop, tasks, time-outs", r"asyncio/|selectors.py|concurrent/futures|threading.py"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one contestant, measure it, then profile it."""
    options = _parser().parse_args(argv)
    contestant = next(form for form in _contestants() if form.name == options.name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    cores = share_cores(1)
    os.sched_setaffinity(0, cores.load)
    cell = Cell(BY_NAME[options.only], options.connections)
    with suppress(KeyboardInterrupt), make_bed(members_for([cell])) as bed:
        bed.make_database(contestant.name, has_words=not contestant.is_ours)
        with running(contestant, bed, cores, 1) as one:
            track = Track(bed, cores, [one])
            plain = track.run(cell, one, options.seconds)
            raw = _record(bed, cell, one, track, options)
    seen = list(stacks(raw.splitlines()))
    total = sum(count for _, count in seen)
    print(f"{contestant.title}: {cell.title}")
    print(f"{plain.rate:,.0f} requests per second, {plain.cpu_us:.0f} µs of processor time each\n")
    for title, counted in (("layer", by_layer(seen)), ("function", by_function(seen))):
        print(f"| {title} | share | µs per request |\n|---|--:|--:|")
        for name, count in counted.most_common(options.top):
            print(f"| {name} | {count / total:.1%} | {count / total * plain.cpu_us:.1f} |")
        print()
    if options.save:
        layers = by_layer(seen).most_common(_SAVED_LAYERS)
        costs = {name: count / total * plain.cpu_us for name, count in layers}
        saved.save("profile", {"layers": {**costs, "other": plain.cpu_us - sum(costs.values())}})


def _record(bed: Bed, cell: Cell, one: Running, track: Track, options: Namespace) -> str:
    """Return py-spy's samples of the busiest process in its raw format: frames and counts."""
    raw = bed.folder / "profile.raw"
    busiest = max(one.tree(), key=lambda process: sum(process.cpu_times()[:2]))
    spy = subprocess.Popen(
        [
            *(str(PEERS_VENV / "bin" / "py-spy"), "record", "--format", "raw", "--output", raw),
            *("--rate", str(SAMPLES_PER_SECOND), "--duration", str(options.seconds)),
            *("--pid", str(busiest.pid)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        track.run(cell, one, options.seconds + 2)
        _, errors = spy.communicate(timeout=30)
    finally:
        spy.kill()
    if spy.returncode:
        raise SystemExit(f"bench: py-spy: {errors.decode()}")
    return raw.read_text()


def stacks(lines: Iterable[str]) -> Iterator[tuple[list[tuple[str, str]], int]]:
    """Yield stacks of frames (function and file), innermost first, with their number of samples."""
    for line in lines:
        frames, _, count = line.rpartition(" ")
        found = [_FRAME.fullmatch(frame) for frame in reversed(frames.split(";"))]
        stack = [(match["function"], match["file"]) for match in found if match]
        if stack and not _WAITING.search(stack[0][1]):
            yield stack, int(count)


def by_layer(stacks: Iterable[tuple[list[tuple[str, str]], int]]) -> Counter[str]:
    """Count the samples of each layer."""
    counted: Counter[str] = Counter()
    for frames, count in stacks:
        counted[next(filter(None, (_layer_of(file) for _, file in frames)), "other")] += count
    return counted


def by_function(stacks: Iterable[tuple[list[tuple[str, str]], int]]) -> Counter[str]:
    """Count the samples of each function, including the C code that it calls."""
    counted: Counter[str] = Counter()
    for frames, count in stacks:
        function, file = frames[0]
        counted[f"`{function}` ({'/'.join(Path(file).parts[-2:])})"] += count
    return counted


def _layer_of(file: str) -> str | None:
    return next((name for name, pattern in LAYERS if re.search(pattern, file)), None)


def _contestants() -> list[Contestant]:
    return [*forms_of_ours(), *peers()]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="scripts/bench profile", description=__doc__)
    names = [form.name for form in _contestants()]
    parser.add_argument("name", nargs="?", default=names[0], choices=names, help=f"({names[0]})")
    parser.add_argument("--only", default="hit", choices=BY_NAME, help="scenario (hit)")
    parser.add_argument("--connections", type=int, default=32, help="number of connections (32)")
    parser.add_argument("--seconds", type=int, default=8, help="duration of the profile (8)")
    parser.add_argument("--save", action="store_true", help="update docs/performance.md")
    parser.add_argument("--top", type=int, default=25, help="rows of each table (25)")
    return parser


if __name__ == "__main__":
    main()
