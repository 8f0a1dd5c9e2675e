"""The listening sockets: TCP, a Unix socket, systemd's sockets; and TLS."""

import gc
import http.client
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.service import ROOT, STARTUP_SECONDS, Command
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.serving.sockets import ServingError, listen, listen_for_admin
from tornado_members.serving.systemd import Notifier
from tornado_members.serving.tls import tls_context
from tornado_members.settings import Admin, Server, SettingsError, Tls


def make_certificate(folder: Path, serial: int) -> Tls:
    """Write a self-signed certificate for 127.0.0.1 with its key, over an earlier one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    tls = Tls(certificate=folder / "certificate.pem", key=folder / "key.pem")
    pem = serialization.Encoding.PEM
    assert tls.certificate
    assert tls.key
    tls.certificate.write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    tls.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return tls


def serial_number(port: int) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


@contextmanager
def notify_socket(folder: Path) -> Iterator[socket.socket]:
    """A socket that stands in for systemd's NOTIFY_SOCKET, in `folder`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.settimeout(STARTUP_SECONDS)
        yield listener


# systemd passes sockets as descriptor 3 and following, and names the process they are for.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "tornado_members", "serve", *sys.argv[2:]])
"""


def test_systemd_socket_is_used_and_notified_and_a_new_certificate_is_loaded(
    folder: Path, servers: PrivateServers, database_name: str
) -> None:
    tls = make_certificate(folder, 1)
    command = Command(
        folder,
        {
            "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
            "cache": {"servers": []},
            "server": {"tls": {"certificate": str(tls.certificate), "key": str(tls.key)}},
        },
    )
    with socket.create_server(("127.0.0.1", 0)) as listener, notify_socket(folder) as systemd:
        port = listener.getsockname()[1]
        activate = [sys.executable, "-c", ACTIVATE, str(listener.fileno())]
        process = subprocess.Popen(
            [*activate, "--config", str(command.config)],
            pass_fds=[listener.fileno()],
            env={**os.environ, "PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": str(folder / "notify")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert systemd.recv(100) == b"READY=1"
            assert serial_number(port) == 1
            trusting = ssl.create_default_context(cafile=tls.certificate)
            trusting.check_hostname = False
            client = http.client.HTTPSConnection("127.0.0.1", port, context=trusting, timeout=30)
            client.request("GET", "/members")
            assert client.getresponse().status == 401
            client.close()
            make_certificate(folder, 2)
            process.send_signal(signal.SIGHUP)
            assert systemd.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert systemd.recv(100) == b"READY=1"
            assert serial_number(port) == 2
            process.terminate()
            assert systemd.recv(100) == b"STOPPING=1"
            output, _ = process.communicate(timeout=30)
            assert process.returncode == 0
            assert f"https://127.0.0.1:{port}" in output
        finally:
            process.kill()
            process.communicate()


def test_unix_socket_is_served_and_removed(
    folder: Path, servers: PrivateServers, database_name: str
) -> None:
    file = folder / "members.socket"
    with socket.socket(socket.AF_UNIX) as killed:  # left behind by a killed process
        killed.bind(str(file))
    command = Command(
        folder,
        {
            "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
            "cache": {"servers": []},
            "server": {"unix_socket": str(file), "unix_socket_mode": "0600"},
        },
    )
    with command.serving() as service:
        assert f"http+unix:{file}" in service.startup_output
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(file))
            client.sendall(b"GET /members HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 401 ")
        assert service.stop() == 0
    assert not file.exists()


def test_socket_in_use_is_not_removed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(folder / "taken"))
        other.listen()
        with pytest.raises(ServingError, match="another service listens there"):
            listen(Server(unix_socket=folder / "taken"), {})
    (folder / "file").write_text("precious")
    with pytest.raises(ServingError, match="not a socket"):
        listen(Server(unix_socket=folder / "file"), {})
    assert (folder / "file").read_text() == "precious"


def test_replaced_socket_file_is_not_removed(folder: Path) -> None:
    listening = listen(Server(unix_socket=folder / "socket"), {})
    listening.close()
    (folder / "socket").unlink()
    (folder / "other").write_text("")  # so that its inode is not reused
    (folder / "socket").write_text("")
    listening.remove_file()
    assert (folder / "socket").exists()


def test_sockets_for_another_process_are_ignored() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    listening = listen(Server(port=0), environment)
    assert listening.url("http").startswith("http://127.0.0.1:")
    assert environment == {}
    listening.close()


def test_abstract_notify_socket_is_notified() -> None:
    name = f"tornado-members-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        environment = {"NOTIFY_SOCKET": "@" + name}
        Notifier(environment).ready()
        assert listener.recv(100) == b"READY=1"
        assert environment == {}


def spoil(tls: Tls, what: str, folder: Path) -> None:
    assert tls.certificate
    assert tls.key
    match what:
        case "missing":
            tls.key.unlink()
        case "nonsense":
            tls.certificate.write_text("nonsense")
        case "of another":
            (folder / "other").mkdir()
            other: Any = make_certificate(folder / "other", 2)
            other.key.replace(tls.key)
        case "encrypted":
            key = serialization.load_pem_private_key(tls.key.read_bytes(), None)
            form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            secret = serialization.BestAvailableEncryption(b"secret")
            tls.key.write_bytes(key.private_bytes(*form, secret))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "server.tls.key: .*No such file"),
        ("nonsense", "server.tls: .*not a PEM certificate"),
        ("of another", "server.tls: .*KEY_VALUES_MISMATCH"),
        ("encrypted", "server.tls: "),
    ],
)
def test_unusable_certificate_is_reported(folder: Path, what: str, words: str) -> None:
    tls = make_certificate(folder, 1)
    assert tls_context(tls)
    spoil(tls, what, folder)
    with pytest.raises(SettingsError, match=words):
        tls_context(tls)


# Tornado leaves a socket that could not be bound to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_second_service_finds_another_admin_port() -> None:
    with socket.socket() as other:
        with suppress(OSError):  # another process has it, which suffices
            other.bind(("127.0.0.1", Admin().port))
            other.listen()
        listening = listen_for_admin(Admin())
        url = listening.url("http")
        listening.close()
        gc.collect()
    assert url != f"http://127.0.0.1:{Admin().port}"
