"""Runs wrk, which generates the load."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.scenarios import Scenario

_SCRIPT = Path(__file__).with_name("requests.lua")
_GRACE_SECONDS = 30


class LoadFailed(Exception):
    """wrk failed. The message is its output."""


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a run. A latency is the time from a request to the end of its response."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int  # responses of 400 and above
    broken: int  # connections


def load(
    scenario: Scenario,
    port: int,
    *,
    connections: int,
    seconds: float,
    token: str,
    start: int,
    serial: int,
    lines: Path,
) -> Load:
    """Send requests for some seconds, from one thread. Raises LoadFailed.

    The walk over the members begins at `start`; writes are numbered from `serial`. `lines` is a
    file with a line for each request, if the scenario needs one.
    """
    words = [scenario.kind, token, str(scenario.members), str(start), str(serial)]
    if lines.exists():
        words.append(str(lines))
    done = subprocess.run(
        [
            *(_find_wrk(), "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds:.0f}s", "--timeout", "10s", "--script", str(_SCRIPT)),
            *(f"http://127.0.0.1:{port}", "--", *words),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + _GRACE_SECONDS,
    )
    *_, last = done.stdout.strip().splitlines() or [""]
    if done.returncode or not last.startswith("{"):
        raise LoadFailed(done.stderr + done.stdout)
    return Load(**json.loads(last))


def _find_wrk() -> str:
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("bench: wrk is missing (on Debian: apt-get install wrk)")
    return program
