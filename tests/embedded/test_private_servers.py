"""Private servers and their users; tests/test_serving.py covers them as processes."""

import fcntl
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import find_memcached, free_port


def memcached_in(folder: Path) -> PrivateServers:
    return PrivateServers(folder, mongodb=False, die_with_parent=True)


def test_last_user_stops_the_servers(folder: Path) -> None:
    with memcached_in(folder) as first:
        with memcached_in(folder) as second:
            assert second.ports == first.ports
        assert len(first.processes()) == 1
    assert first.processes() == []


def test_last_user_waits_for_a_user_that_is_being_killed(folder: Path) -> None:
    """The kernel releases the lock of a killed process a moment after the kill."""
    with memcached_in(folder) as servers:
        dying = (folder / "users.lock").open()
        fcntl.flock(dying, fcntl.LOCK_SH)
        threading.Timer(0.1, dying.close).start()
    assert servers.processes() == []


def test_data_dir_may_contain_spaces_and_be_a_link(folder: Path) -> None:
    (folder / "a folder").mkdir()
    (folder / "link").symlink_to(folder / "a folder")
    with memcached_in(folder / "link") as one, memcached_in(folder / "a folder") as other:
        assert one.ports == other.ports
    assert one.processes() == []


def test_dead_server_is_restarted_on_its_port(folder: Path) -> None:
    with memcached_in(folder) as servers:
        assert servers.restart_dead() == []
        (memcached,) = servers.processes()
        memcached.kill()
        memcached.wait()
        ports = servers.ports
        assert servers.restart_dead() == ["memcached"]
        assert servers.ports == ports
        assert len(servers.processes()) == 1


def test_next_start_has_the_same_port_unless_another_program_uses_it(folder: Path) -> None:
    with memcached_in(folder) as servers:
        first = servers.ports
    with memcached_in(folder) as servers:
        assert servers.ports == first
    with socket.create_server(("127.0.0.1", first.memcached or 0)), memcached_in(folder) as servers:
        assert servers.ports != first
        assert len(servers.processes()) == 1


def test_server_that_dies_during_its_start_is_restarted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = PrivateServers._start_memcached

    def start_and_kill(self: PrivateServers, port: int | None) -> int | None:
        port = start(self, port)
        (memcached,) = self.processes()
        memcached.kill()
        memcached.wait()
        return port

    monkeypatch.setattr(PrivateServers, "_start_memcached", start_and_kill)
    with memcached_in(folder) as servers:
        assert servers.restart_dead() == ["memcached"]
        monkeypatch.undo()
        assert servers.restart_dead() == ["memcached"]
        assert servers.restart_dead() == []
        assert len(servers.processes()) == 1


def test_data_dir_is_untouched_without_private_servers(folder: Path) -> None:
    with PrivateServers(folder / "data", mongodb=False, memcached=False):
        assert not (folder / "data").exists()


class TestOfAnotherUser:
    """A process with the name and the arguments of our Memcached, and another owner."""

    @pytest.fixture
    def foreign(self, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
        if os.geteuid() != 0:
            pytest.skip("only root starts processes of other users")
        command = [find_memcached() or "", "-l", "127.0.0.1", "-p", str(free_port()), "-U", "0"]
        mark = str((folder / "memcached.pid").resolve())
        with subprocess.Popen([*command, "-P", mark], user=65534) as process:
            yield process
            process.kill()

    def test_foreign_process_is_not_stopped(
        self, folder: Path, foreign: "subprocess.Popen[bytes]"
    ) -> None:
        with memcached_in(folder) as servers:
            assert servers.ports.memcached
            (ours,) = servers.processes()
            assert ours.pid != foreign.pid
        assert foreign.poll() is None
        assert servers.processes() == []
