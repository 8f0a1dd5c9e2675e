"""The command watch."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers


@pytest.fixture
def command(folder: Path, servers: PrivateServers) -> Command:
    return Command(
        folder,
        {
            "mongodb": {"uri": servers.mongodb_uri, "database": "watched"},
            "cache": {"servers": servers.cache_servers},
        },
    )


@pytest.fixture
def service(command: Command) -> Iterator[Service]:
    with command.serving() as service:
        yield service


def test_watch_prints_ndjson_to_a_file_and_text_to_a_terminal(
    command: Command, service: Service
) -> None:
    status, ada = service("PUT", "/members", {"name": f"Ada {os.getpid()}"})
    assert status == 201
    member_id = ada["memberId"]
    only = ("watch", "--url", service.url, "--member", str(member_id))
    with command.start(*only) as process:
        assert process.stdout
        cursor = json.loads(process.stdout.readline())["id"]
        service("PUT", "/members", {"name": f"Other {os.getpid()}"})
        service("PUT", f"/members/{member_id}", {"name": ada["name"], "phone": "555-0100"})
        event = json.loads(process.stdout.readline())
        assert event["data"] == {
            "memberId": member_id,
            "version": 2,
            "member": {**ada, "phone": "555-0100"},
        }
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    terminal, end = pty.openpty()
    with command.start(*only, "--after", cursor, stdout=end) as process:
        os.close(end)
        text = b""
        while b"\n" not in text:
            text += os.read(terminal, 4096)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    os.close(terminal)
    line = text.decode().split("\r\n", maxsplit=1)[0]
    assert f"changed {member_id:>8} version 2" in line
    assert "phone='555-0100'" in line


def test_watch_resumes_after_a_restart_of_the_workers(command: Command, service: Service) -> None:
    with command.start("watch", "--url", service.url, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["event"] == "ready"
        service.process.send_signal(signal.SIGHUP)
        names = [f"After {number} {os.getpid()}" for number in range(3)]
        for name in names:
            assert service("PUT", "/members", {"name": name})[0] == 201
        found = [json.loads(process.stdout.readline())["data"]["member"]["name"] for _ in names]
        assert found == names
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@pytest.mark.parametrize(
    ("options", "token", "reason"),
    [
        (["--after", "nonsense"], None, "400: after: is not a cursor of this feed"),
        (["--member", "0"], None, "400: memberId"),
        ([], "nonsense", "401: "),
    ],
)
def test_watch_ends_if_the_service_refuses_the_request(
    command: Command,
    service: Service,
    options: list[str],
    token: str | None,
    reason: str,
) -> None:
    if token:
        (file := command.folder / "token").write_text(token)
        options = ["--token-file", str(file)]
    finished = command.run("watch", "--url", service.url, *options)
    assert finished.returncode == 2
    assert reason in finished.stderr


def test_watch_needs_an_address(command: Command) -> None:
    finished = command.run("watch")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "--url" in finished.stderr
