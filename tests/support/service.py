"""The service and its commands as processes."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from tests.support.fork_server import ForkedProcess
from tests.support.signing_key import place_signing_key
from tornado_members.__main__ import main
from tornado_members.embedded.private_servers import PrivateServers

ROOT = Path(__file__).parent.parent.parent
STARTUP_SECONDS = 60


@contextmanager
def _unchanged_logging() -> Iterator[None]:
    """Restore the level and the handlers of the root logger, which a command configures."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


class Command:
    """The package's command, with a settings file for the test."""

    transport = "http1"  # for services whose test does not name one

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.config = folder / "settings.yaml"
        defaults = {
            "data_dir": "data",
            "server": {"port": 0, "transport": self.transport},
            "admin": {"port": 0},
            "log": {"format": "text"},
        }
        self.config.write_text(json.dumps({**defaults, **(settings or {})}))  # JSON is YAML
        self.data = folder / "data"
        self._logs: list[Path] = []

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a process. tests/deploy/test_wheel.py starts the installed program instead."""
        command, *rest = arguments
        return ForkedProcess(
            [command, "--config", self.config, *rest],
            cwd=self.folder,
            env=os.environ,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )

    def run(
        self, command: str, *arguments: str, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in this process, which saves the start of a process."""
        argv = [command, "--config", str(self.config), *arguments]
        output, errors = StringIO(), StringIO()
        source = sys.stdin if stdin is None else TextIOWrapper(BytesIO(stdin.encode()))
        with (
            chdir(self.folder),
            redirect_stdout(output),
            redirect_stderr(errors),
            patch.object(sys, "stdin", source),
            _unchanged_logging(),
        ):
            try:
                code: Any = main(argv)
            except SystemExit as ended:  # raised by argparse
                code = ended.code
        return subprocess.CompletedProcess(argv, code, output.getvalue(), errors.getvalue())

    def run_alone(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in its own process."""
        with self.start(*arguments) as process:
            output, errors = process.communicate(timeout=STARTUP_SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def token(self, *arguments: str) -> str:
        """Return a token of the service's own issuer."""
        finished = self.run("token", *arguments)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.strip()

    def servers(self) -> list[psutil.Process]:
        """Return the running private servers of its data folder."""
        return PrivateServers(self.data).processes()

    @contextmanager
    def serving(self, *arguments: str) -> Iterator["Service"]:
        """Run the service until the end of the block at the latest."""
        place_signing_key(self.data)
        # A pipe without a reader would block the service after some thousand log lines.
        file = self.folder / f"serve-{len(self._logs)}.log"
        self._logs.append(file)
        with file.open("w") as log:
            process = self.start("serve", *arguments, stdout=log, stderr=log)
        starting = threading.Timer(STARTUP_SECONDS, process.kill)
        starting.start()
        try:
            service = Service(self, process, file)
            starting.cancel()
            yield service
        finally:
            starting.cancel()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(timeout=STARTUP_SECONDS)

    def log(self) -> str:
        """Return the log of all services."""
        return "".join(file.read_text() for file in self._logs)


def run_each(commands: Sequence[Command], name: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a command of each to its end, concurrently, each in its own process."""
    processes = [command.start(name) for command in commands]
    ends = [process.communicate(timeout=STARTUP_SECONDS) for process in processes]
    return [
        subprocess.CompletedProcess(name, process.returncode, *end)
        for process, end in zip(processes, ends, strict=True)
    ]


class Service:
    """A service that has logged its address."""

    def __init__(self, command: Command, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        while not re.search("Ctrl-C.*\n|admin_url.*\n", log.read_text()):
            assert process.poll() is None, f"the service did not start: {log.read_text()}"
            time.sleep(0.02)
        self.startup_output = log.read_text()
        found = re.search(r"listens on (http[^\s\"]+)", self.startup_output)
        admin = re.search(r"(?:admin_url\": \"|metrics +)(http://[0-9.:]+)", self.startup_output)
        assert found
        assert admin
        self.url, self.admin_url = found[1], admin[1]
        self._token = command.token("--rights", "3")

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request with full rights; return the status and the parsed body."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": f"application/{'merge-patch+' if method == 'PATCH' else ''}json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                content, status = response.read(), response.status
        except urllib.error.HTTPError as error:
            with error:
                content, status = error.read(), error.code
        return status, json.loads(content) if content else None

    def admin(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        """Send a request to the admin listener; return the status and the body."""
        url = self.admin_url + path
        request = urllib.request.Request(url, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        supervisor = psutil.Process(self.process.pid)
        name = supervisor.name()  # private servers have other names, and survive a SIGKILL
        workers = [child for child in supervisor.children() if child.name() == name]
        self.process.send_signal(how)
        code = self.process.wait(timeout=STARTUP_SECONDS)
        psutil.wait_procs(workers, timeout=STARTUP_SECONDS)  # after SIGKILL, they end later
        return code
