"""A network of hosts for one test: see router.py, which runs as a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import router
from tornado_members.embedded.programs import with_parent_death_signal

_ROOT = Path(__file__).parent.parent.parent
ALL_LOST = 1.0


def why_unavailable() -> str | None:
    """Return why this machine cannot run such networks; None if it can."""
    if os.geteuid():
        return "network namespaces need root"
    missing = [name for name in ("ip", "nsenter") if not shutil.which(name)]
    if missing:
        return f"network namespaces need the programs {' and '.join(missing)}"
    try:
        with Network({"host": "10.231.7.1"}):
            return None
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"network namespaces or TUN devices cannot be created here: {error}"


class Network:
    """Creates the hosts for a `with` block. They end with it, and with this process."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """`addresses` are IPv4 addresses of one network, by the names of the hosts."""
        self.addresses = addresses
        self.namespaces: dict[str, str] = {}  # files, by the names of the hosts
        self._router: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        hosts = [f"{name}={address}" for name, address in self.addresses.items()]
        self._router = subprocess.Popen(
            with_parent_death_signal([sys.executable, "-m", router.__name__, *hosts]),
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._router.stdout
        first = self._router.stdout.readline()
        if not first:
            _, errors = self._router.communicate()
            raise ValueError(errors.strip().rpartition("\n")[2])
        self.namespaces = json.loads(first)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._router:
            self._router.kill()
            self._router.communicate()

    def command(self, host: str, command: list[str]) -> list[str]:
        """Return a command that runs on a host."""
        return ["nsenter", f"--net={self.namespaces[host]}", "--", *command]

    def disturb(
        self, pairs: Iterable[tuple[str, str]], *, lost: float = ALL_LOST, delay: float = 0.0
    ) -> None:
        """Lose a share of the packets between these pairs, and delay the others, each way.

        It replaces earlier faults, so that without pairs the network has none.
        """
        links = [[a, b, lost, delay] for pair in pairs for a, b in permutations(pair)]
        assert self._router
        assert self._router.stdin
        assert self._router.stdout
        self._router.stdin.write(json.dumps(links) + "\n")
        self._router.stdin.flush()
        assert self._router.stdout.readline() == "ok\n", "the router has ended"
