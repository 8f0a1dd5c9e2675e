"""Supervisor and workers: crashes, replacement, drain, reload."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from tests.support.load import Load
from tests.support.service import ROOT, Command, Service
from tests.support.suspension import suspend
from tests.support.waiting import wait_for
from tornado_members.embedded.private_servers import PrivateServers


@pytest.fixture
def command(folder: Path, servers: PrivateServers, database_name: str) -> Command:
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    server = {"port": 0, "processes": 2, "drain_seconds": 3}
    cache = {"servers": servers.cache_servers}
    return Command(folder, {"mongodb": mongodb, "cache": cache, "server": server})


@pytest.fixture
def service(command: Command) -> Iterator[Service]:
    with command.serving() as service:
        yield service


def change(command: Command, **sections: Any) -> None:
    """Change settings in the file."""
    settings = json.loads(command.config.read_text())
    for name, section in sections.items():
        settings[name] = {**settings.get(name, {}), **section}
    command.config.write_text(json.dumps(settings))


def workers(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def load_on(service: Service) -> Load:
    return Load(int(service.url.rpartition(":")[2]), service._token)


def reload(service: Service, log: Callable[[], str], times: int = 1) -> None:
    """Send a reload, and wait until it is complete."""
    for _ in range(times):
        before = set(workers(service))
        written = len(log())
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: log()[written:].count(" ready") >= 2)  # noqa: B023  # called at once
        wait_for(lambda: not before & set(workers(service)))  # noqa: B023  # called at once


def test_rolling_restarts_lose_no_request(service: Service, command: Command) -> None:
    with load_on(service) as load:
        reload(service, command.log, times=2)
        status, report = service.admin("/readyz")
        assert (status, "draining" in report) == (200, False)
    assert not load.failures
    assert load.answers > 20
    # The counts of retired workers remain; workers publish new ones every second.
    wait_for(lambda: counted_requests(service) >= load.answers)


def counted_requests(service: Service) -> float:
    lines = service.admin("/metrics")[1].splitlines()
    counts = [line for line in lines if line.startswith("members_http_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


@pytest.mark.exhaustive
def test_twenty_rolling_restarts_lose_no_request(service: Service, command: Command) -> None:
    with load_on(service) as load:
        reload(service, command.log, times=20)
    assert not load.failures


def test_reload_applies_new_settings_only_if_they_are_valid(
    service: Service, command: Command
) -> None:
    first = set(workers(service))
    change(command, members={"require_if_match": "perhaps"})
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "members.require_if_match: was 'perhaps'" in command.log())
    # These are well-formed; only a worker can detect the fault.
    change(command, members={"require_if_match": True}, mongodb={"uri_file": "/nowhere"})
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "/nowhere: No such file" in command.log())
    assert service("PUT", "/members", {"name": "Ada"})[0] == 201
    assert set(workers(service)) == first
    change(command, mongodb={"uri_file": None}, server={"port": 1, "processes": 1})
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(workers(service)) == 1 and not first & set(workers(service)))
    assert "server.port: a change requires a restart" in command.log()
    assert service("PUT", "/members/1", {"name": "Bob"})[0] == 428
    assert service.stop() == 0


def test_reload_refuses_changed_settings_of_the_cluster(service: Service, command: Command) -> None:
    first = set(workers(service))
    change(command, cache={"return_ms": 5000})
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "cache.return_ms: cannot change from" in command.log())
    assert set(workers(service)) == first
    assert service("GET", "/members")[0] == 200


def another_databases(servers: PrivateServers) -> list[str]:
    with pymongo.MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
        return client.list_database_names()


def test_worker_does_not_join_workers_of_another_database(
    service: Service, command: Command, folder: Path
) -> None:
    """The URI is not a setting of the cluster: it may change with a password."""
    first = set(workers(service))
    uri = json.loads(command.config.read_text())["mongodb"]["uri"]
    with PrivateServers(folder / "another", memcached=False, die_with_parent=True) as another:
        change(command, mongodb={"uri": another.mongodb_uri})
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "another database than that of the running workers" in command.log())
        wait_for(lambda: set(workers(service)) == first)
        assert "test" not in another_databases(another)
    assert service("GET", "/members")[0] == 200
    change(command, mongodb={"uri": f"{uri}&connectTimeoutMS=9000"})
    reload(service, command.log)
    assert not first & set(workers(service))


def test_dead_worker_is_replaced_and_none_outlives_the_supervisor(
    service: Service, command: Command
) -> None:
    first, second = workers(service)
    first.kill()
    # In this order: a killed process may be missing from the list before the supervisor knows.
    wait_for(lambda: "was killed by signal 9; starting a replacement" in command.log())
    wait_for(lambda: len(workers(service)) == 2 and first not in workers(service))
    assert service("GET", "/members")[0] == 200
    second.terminate()  # not by the supervisor, which replaces it nevertheless
    wait_for(lambda: len(workers(service)) == 2 and second not in workers(service))
    left = workers(service)
    suspend(left[0])  # a worker that does not receive the signal
    assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    _, alive = psutil.wait_procs(left, timeout=60)
    for process in alive:
        process.kill()
    assert alive == []


def test_hanging_worker_is_killed_at_the_stop(service: Service, command: Command) -> None:
    hanging, _ = workers(service)
    suspend(hanging)
    service.process.terminate()
    wait_for(lambda: "stopping" in command.log())
    assert service.stop() == 0  # after a second signal it waits no longer
    assert f"worker {hanging.pid} did not stop in time; killing it" in command.log()


@pytest.mark.parametrize("by_nohup", [False, True])
def test_closed_terminal_ends_the_service_unless_under_nohup(
    command: Command, by_nohup: bool
) -> None:
    change(command, server={"processes": 1})
    ours, theirs = pty.openpty()
    serve = [sys.executable, "-m", "tornado_members", "serve", "--config", str(command.config)]
    file = command.folder / "terminal.log"
    with file.open("a") as log:
        process = subprocess.Popen(
            ["setsid", "--ctty", *(["nohup"] if by_nohup else []), *serve],
            cwd=command.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=theirs,
            stdout=log,
            stderr=log,
        )
    try:
        os.close(theirs)
        wait_for(lambda: "Ctrl-C stops the service" in file.read_text())
        process.send_signal(signal.SIGHUP)  # while there is a terminal, this means a reload
        wait_for(lambda: file.read_text().count(" ready") == 2)
        os.close(ours)
        if by_nohup:
            wait_for(lambda: file.read_text().count(" ready") == 3)
            process.terminate()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
