"""Key sets through a real proxy process, and over TLS with a private CA."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import forward_proxy
from tests.support.certificates import make_certificates
from tests.support.key_server import KeyServer, key_server
from tornado_members.auth.jwks_client import JwksClient
from tornado_members.auth.key_requests import Proxy, RequestFailed
from tornado_members.auth.key_set import KeysUnusable

HOST = "keys.example"  # resolves nowhere: only the proxy has its address


@asynccontextmanager
async def proxy_before(server: KeyServer) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """Yield the host and port of a proxy before a server, and the lines that the proxy prints."""
    target = str(urlsplit(server.address).port)
    process = await asyncio.create_subprocess_exec(
        sys.executable, forward_proxy.__file__, target, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        port = int(await process.stdout.readline())
        yield f"127.0.0.1:{port}", process.stdout
    finally:
        process.kill()
        await process.wait()


async def kids(client: JwksClient, url: str) -> list[str]:
    try:
        return [key["kid"] for key in (await client.fetch(url)).documents]
    finally:
        client.close()


async def test_get_sends_the_absolute_form_to_an_http_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with key_server() as server, proxy_before(server) as (address, lines):
        server.paths["/jwks?v=1"] = server.paths["/jwks"]
        monkeypatch.setenv("HTTP_PROXY", f"http://ada:se%40cret@{address}")
        assert await kids(JwksClient(5), f"http://{HOST}:8080/jwks?v=1") == ["RS256-first"]
        line = (await lines.readline()).decode()
        assert line.startswith(f"GET http://{HOST}:8080/jwks?v=1 HTTP/1.1 ")
        assert line.rstrip().endswith("Proxy-Authorization: Basic YWRhOnNlQGNyZXQ=")


async def test_get_opens_a_tunnel_through_an_https_proxy_and_trusts_a_private_ca(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    ca, certificate = make_certificates(folder, HOST)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with key_server(tls) as server, proxy_before(server) as (address, lines):
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(KeysUnusable, match="CERTIFICATE_VERIFY_FAILED"):
            await kids(JwksClient(5), f"https://{HOST}/jwks")
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        assert await kids(JwksClient(5), f"https://{HOST}/jwks") == ["RS256-first"]
        for _ in range(2):
            assert (await lines.readline()).decode().startswith(f"CONNECT {HOST}:443 HTTP/1.1")
        with pytest.raises(KeysUnusable, match=r"refuses a tunnel: HTTP/1.1 403"):
            await kids(JwksClient(5), "https://refused.example/jwks")
        with pytest.raises(KeysUnusable, match="CERTIFICATE_VERIFY_FAILED"):
            await kids(JwksClient(5), "https://other.example/jwks")  # not in the certificate


async def test_hosts_of_no_proxy_are_connected_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with key_server() as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        assert await kids(JwksClient(5), server.url) == ["RS256-first"]
        monkeypatch.delenv("NO_PROXY")
        with pytest.raises(KeysUnusable, match="did not respond"):
            await kids(JwksClient(5), server.url)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("keys.example", "https://keys.example/", True),
        ("KEYS.example, other", "https://keys.example/", True),
        (".example", "https://keys.example/", True),
        ("*.example", "https://keys.example/", True),
        ("example", "https://keys.example/", True),
        ("ample", "https://keys.example/", False),
        ("keys.example:8443", "https://keys.example:8443/", True),
        ("keys.example:8443", "https://keys.example/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("fd00::/8", "https://[fd00::1]/", True),
        ("*", "https://keys.example/", True),
        (" , ", "https://keys.example/", False),
    ],
)
def test_no_proxy_names_hosts_that_are_reached_directly(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (Proxy.for_url(urlsplit(url)) is None) is direct


@pytest.mark.parametrize("proxy", ["socks5://p.example", "http://", "http://p:x", "https://p"])
def test_error_of_a_proxy_omits_its_password(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy.replace("://", "://ada:hunter2@"))
    with pytest.raises(RequestFailed, match=r"HTTPS_PROXY .* should be http://HOST:PORT") as failed:
        Proxy.for_url(urlsplit("https://keys.example/"))
    assert "hunter2" not in str(failed.value)
