"""The service as a process: its start, its stop, and its leftovers."""

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.service import Command, Service, run_each
from tests.support.suspension import suspend
from tests.support.waiting import wait_for
from tornado_members.embedded.private_servers import PrivateServers


@pytest.fixture
def own(folder: Path) -> Iterator[Command]:
    """A command with its own private servers."""
    command = Command(folder)
    yield command
    left = command.servers()
    for process in left:
        process.kill()
    assert left == [], "servers were left behind"


@pytest.fixture
def joined(folder: Path, servers: PrivateServers, database_name: str) -> Command:
    """A command with the shared servers of the tests, given by their addresses."""
    mongodb = {"uri": servers.mongodb_uri, "database": database_name}
    return Command(folder, {"mongodb": mongodb, "cache": {"servers": servers.cache_servers}})


def children(service: Service) -> list[psutil.Process]:
    """The workers, and all other processes that it started."""
    return psutil.Process(service.process.pid).children(recursive=True)


def kill(command: Command, name: str) -> None:
    for process in command.servers():
        if process.name() == name:
            process.kill()


def test_acknowledged_writes_survive_kills_of_every_process(own: Command) -> None:
    """First start, crashes of each part, restarts."""
    with own.serving() as service:
        assert service("PUT", "/members", {"name": "Ada"})[0] == 201
        kill(own, "memcached")
        assert service("PUT", "/members", {"name": "Bob"})[0] == 201
        assert service("GET", "/members/1") == (200, member(1, "Ada"))
        kill(own, "mongod")
        wait_for(lambda: service("PUT", "/members", {"name": "Carl"})[0] in (201, 409))
        assert service("GET", "/members/2") == (200, member(2, "Bob"))
        wait_for(lambda: len(own.servers()) == 2)
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    left_behind = own.servers()
    assert len(left_behind) == 2
    with own.serving() as service:
        assert not any(process.is_running() for process in left_behind)
        assert len(own.servers()) == 2
        for member_id, name in ((1, "Ada"), (2, "Bob")):
            assert service("GET", f"/members/{member_id}") == (200, member(member_id, name))
        status, dora = service("PUT", "/members", {"name": "Dora"})
        assert status == 201
        assert dora["memberId"] > 2
        assert service.stop(signal.SIGINT) == 0
    assert own.servers() == []


def member(member_id: int, name: str) -> dict[str, Any]:
    return {"memberId": member_id, "name": name, "email": None, "phone": None}


def test_commands_share_the_private_servers_and_the_last_one_stops_them(own: Command) -> None:
    with own.serving() as first, own.serving() as second:
        assert len(own.servers()) == 2
        assert first("PUT", "/members", {"name": "Ada"})[0] == 201
        seeded = own.run_alone("seed", "--fake", "5")
        assert seeded.returncode == 0, seeded.stderr
        assert first.stop() == 0
        assert len(own.servers()) == 2
        kill(own, "mongod")
        wait_for(lambda: "the private mongod had died and was restarted" in own.log())
        assert second("GET", "/members/1")[0] == 200
        assert len(second("GET", "/members")[1]["items"]) == 6
        assert second.stop() == 0
    assert own.servers() == []


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        (["serve"], signal.SIGTERM),
        (["seed", "--fake", "1000000"], signal.SIGTERM),
        (["seed", "--fake", "1000000"], signal.SIGHUP),
    ],
)
def test_signal_during_the_start_leaves_no_process(
    own: Command, arguments: list[str], how: signal.Signals
) -> None:
    process = own.start(*arguments)
    wait_for(own.servers)
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (0 if arguments == ["serve"] else 128 + how)
    assert "Traceback" not in errors
    assert own.servers() == []


def test_serve_starts_no_private_servers_if_addresses_are_given(joined: Command) -> None:
    with joined.serving() as service:
        assert service("PUT", "/members", {"name": "Ada"})[0] == 201
        assert {child.name() for child in children(service)} == {psutil.Process().name()}
        assert not (joined.data / "mongodb").exists()
        assert "private" not in service.startup_output
        assert service.admin("/readyz")[0] == 200
        assert service.stop() == 0


def test_banner_shows_commands_that_work(joined: Command) -> None:
    (spaced := joined.folder / "a folder").mkdir()
    joined = Command(spaced, json.loads(joined.config.read_text()))
    with joined.serving() as service:
        pasted = service.startup_output.split("another shell:\n")[1].split("Ctrl-C")[0]
        done = subprocess.run(
            ["/bin/bash", "-euc", pasted],
            capture_output=True,
            text=True,
            check=True,
            cwd=joined.folder,
        )
        assert "HTTP/1.1 201 Created" in done.stdout
        assert "Location: /members/1" in done.stdout
        assert done.stdout.count('"name":"Ada Lovelace"') == 2


@pytest.mark.parametrize("signalled", ["the supervisor", "all processes"])
def test_stop_completes_requests_in_progress(
    joined: Command, servers: PrivateServers, signalled: str
) -> None:
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    answers: list[tuple[int, Any]] = []
    with joined.serving() as service:
        service("GET", "/members")
        suspend(mongod)
        try:
            asking = threading.Thread(
                target=lambda: answers.append(service("PUT", "/members", {"name": "Ada"}))
            )
            asking.start()
            time.sleep(0.5)  # until it arrives; a late arrival cannot fail the test
            workers = children(service) if signalled == "all processes" else []
            service.process.send_signal(signal.SIGTERM)
            for worker in workers:  # as systemd does with its default KillMode
                worker.terminate()
            wait_for(lambda: "stopping" in joined.log())
            assert service.process.poll() is None
            assert service.admin("/livez") == (200, "alive\n")
            status, report = service.admin("/readyz")
            assert (status, report.splitlines()[0]) == (503, "draining")
        finally:
            mongod.resume()
        asking.join(timeout=60)
        assert service.process.wait(timeout=60) == 0
    assert [status for status, _ in answers] == [201]


# Invalid settings, and words of the reason that the failed start reports.
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"servr": {}}, ["servr: unknown setting"]),
    (
        {"mongodb": {"uri": "mongodb://u:secret@127.0.0.1:1/", "timeout_ms": 200}},
        ["MongoDB at mongodb://127.0.0.1:1/ (mongodb.uri) does not answer"],
    ),
    ({"mongodb": {"uri": "mongodb://x:y:z/"}}, ["mongodb.uri"]),
    (
        {"mongodb": {"uri": "mongodb+srv://u:secret@db.invalid/", "timeout_ms": 2000}},
        ["MongoDB at mongodb+srv://db.invalid/ (mongodb.uri) cannot be found", "SRV record"],
    ),
    ({"auth": {"own_issuer": "x", "issuers": [{"issuer": "y", "audience": "z"}]}}, ["jwks"]),
    (
        {"auth": {"issuers": [{"issuer": "y", "audience": "z", "jwks": {"file": "no"}}]}},
        ["No such file"],
    ),
    *(
        ({"mongodb": {}, "data_dir": data_dir}, ["data_dir: "])
        for data_dir in ("/proc/none", "/etc/passwd", "settings.yaml/x")
    ),
]


def test_failed_start_reports_the_reason_without_a_traceback(
    folder: Path, servers: PrivateServers
) -> None:
    defaults = {"mongodb": {"uri": servers.mongodb_uri}, "cache": {"servers": []}}
    table = list(REFUSED)
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        for section in ("server", "admin"):
            where = f"127.0.0.1:{port} ({section}.host, {section}.port)"
            table.append(({section: {"port": port}}, [where, f"MEMBERS_{section.upper()}__PORT="]))
        commands = []
        for number, (settings, _) in enumerate(table):
            (own := folder / str(number)).mkdir()
            commands.append(Command(own, {**defaults, **settings}))
        ends = run_each(commands, "serve")
    for (settings, words), ended in zip(table, ends, strict=True):
        assert ended.returncode == 2, (settings, ended)
        assert all(word in ended.stderr for word in words), (settings, ended)
        assert "Traceback" not in ended.stderr, settings
        assert "secret" not in ended.stderr, settings
