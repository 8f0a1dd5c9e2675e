"""A Prometheus that scrapes services, and an Alertmanager that receives its alerts."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tests.support.deployment import DEPLOY
from tests.support.service import Service
from tornado_members.embedded.programs import free_port, with_parent_death_signal

PROGRAMS: Final = ("prometheus", "prometheus-alertmanager")
_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 10


def quick(rules: str) -> str:
    """Return alert rules that fire within seconds instead of minutes."""
    rules = re.sub(r"for: \d+m", "for: 1s", rules)
    rules = re.sub(r"\[\d+[mh]\]", "[6s]", rules)
    return rules.replace("stalled_seconds) > 60", "stalled_seconds) > 2")


class Monitoring:
    """The two programs, and the notifications of the Alertmanager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._states: dict[str, str] = {}  # of each alert: firing or resolved

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query. Raises HTTPError if it is not valid."""
        query = urllib.parse.urlencode({"query": expression})
        url = f"{self._url}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return list(json.load(response)["data"]["result"])

    def notify(self, alerts: Sequence[dict[str, Any]]) -> None:
        """Receive a notification of the Alertmanager."""
        for alert in alerts:
            self._states[alert["labels"]["alertname"]] = alert["status"]

    def await_state(self, alert: str, state: str, seconds: float = 60) -> None:
        """Wait for the notification that an alert is `firing` or `resolved`.

        An alert that has never fired is `resolved`.
        """
        deadline = time.monotonic() + seconds
        while self._states.get(alert, "resolved") != state:
            assert time.monotonic() < deadline, f"{alert} is {self._states.get(alert)}"
            time.sleep(0.1)


@contextmanager
def monitoring(folder: Path, services: Sequence[Service]) -> Iterator[Monitoring]:
    """Run both programs with the rules of deploy/prometheus, made quick."""
    prometheus, alertmanager = free_port(), free_port()
    found = Monitoring(f"http://127.0.0.1:{prometheus}")
    with ExitStack() as stack:
        receiver = stack.enter_context(_receiver(found))
        _write_files(folder, alertmanager, receiver, services)
        manager = [
            f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/alertmanager",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            "--cluster.listen-address=",
        ]
        server = [
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/prometheus",
            f"--web.listen-address=127.0.0.1:{prometheus}",
        ]
        stack.enter_context(_running([PROGRAMS[1], *manager], alertmanager, folder))
        stack.enter_context(_running([PROGRAMS[0], *server], prometheus, folder))
        yield found


def _write_files(
    folder: Path, alertmanager: int, receiver: int, services: Sequence[Service]
) -> None:
    targets = [urllib.parse.urlsplit(service.admin_url).netloc for service in services]
    (folder / "alerts.yaml").write_text(quick((DEPLOY / "prometheus" / "alerts.yaml").read_text()))
    prometheus = {
        "global": {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        },
        "rule_files": [str(folder / "alerts.yaml")],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
        },
        "scrape_configs": [{"job_name": "members", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(prometheus))
    route = {"receiver": "test", "group_by": ["alertname"], "group_wait": "100ms"}
    hook = {"url": f"http://127.0.0.1:{receiver}/", "send_resolved": True}
    alerts = {
        "route": {**route, "group_interval": "500ms", "repeat_interval": "1h"},
        "receivers": [{"name": "test", "webhook_configs": [hook]}],
    }
    (folder / "alertmanager.yml").write_text(json.dumps(alerts))


@contextmanager
def _receiver(found: Monitoring) -> Iterator[int]:
    """Receive notifications; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.notify(json.loads(body)["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run a program until the end of the block, which begins when it is ready."""
    path = shutil.which(command[0])
    assert path, f"{command[0]} is not installed"
    log = folder / f"{command[0]}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            with_parent_death_signal([path, *command[1:]]), stdout=output, stderr=output, cwd=folder
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            try:
                url = f"http://127.0.0.1:{port}/-/ready"
                with urllib.request.urlopen(url, timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
