"""A GET for a small document: bounded in time and size, through a proxy if one is configured."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient

StartLine = RequestStartLine | ResponseStartLine

_MAX_HEADERS: Final = 16 * 1024  # bytes
_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_HEADERS: Final[Mapping[str, str]] = {
    "Accept": "application/json, application/jwk-set+json",
    "Connection": "close",
    # No Accept-Encoding: a small response could unpack to a large one.
    "User-Agent": "tornado_members",
}


class RequestFailed(Exception):
    """A request without a complete response. The message gives the reason, and no password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy from HTTPS_PROXY or HTTP_PROXY."""

    host: str
    port: int
    headers: Mapping[str, str]  # its Proxy-Authorization, if it has a user

    @classmethod
    def for_url(cls, url: SplitResult) -> "Proxy | None":
        """Return the proxy for a URL; None for a direct connection. Raises RequestFailed."""
        proxies = getproxies_environment()
        if url.scheme not in proxies or _bypasses(url, proxies):
            return None
        text = proxies[url.scheme]
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port or _DEFAULT_PORTS["http"]
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme != "http":
            raise RequestFailed(
                f"{url.scheme.upper()}_PROXY in the environment should be http://HOST:PORT"
            )
        if parts.username is None:
            return cls(host, port, {})
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = base64.b64encode(pair.encode()).decode()
        return cls(host, port, {"Proxy-Authorization": f"Basic {credentials}"})


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response."""

    status: int
    headers: HTTPHeaders
    body: bytes


class _Collector(HTTPMessageDelegate):
    """Collects one response."""

    def __init__(self) -> None:
        self.status = 0
        self.headers = HTTPHeaders()
        self.body = b""
        self.is_complete = False

    def headers_received(self, start_line: StartLine, headers: HTTPHeaders) -> None:
        if isinstance(start_line, ResponseStartLine):
            self.status, self.headers = start_line.code, headers

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def finish(self) -> None:
        self.is_complete = True


class BoundedClient:
    """Sends GET requests. Redirects are not followed, and nothing is kept between requests."""

    def __init__(self, max_body: int) -> None:
        """`max_body` in bytes. SSL_CERT_FILE in the environment names the trusted roots."""
        self._max_body = max_body
        self._tcp = TCPClient()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The trusted roots. Loading them takes 30 ms, which only HTTPS needs."""
        return ssl.create_default_context()

    def close(self) -> None:
        """Close the resolver."""
        self._tcp.close()

    async def get(self, url: str) -> Response:
        """Return the response. The caller limits the time. Raises RequestFailed, OSError ..."""
        parts = urlsplit(url)
        proxy = Proxy.for_url(parts)
        stream = await self._connect(parts, proxy)
        try:
            is_forwarded = proxy is not None and parts.scheme == "http"
            target = url if is_forwarded else f"{parts.path or '/'}"
            if parts.query and not is_forwarded:
                target += f"?{parts.query}"
            further = proxy.headers if proxy and is_forwarded else {}
            return await self._exchange(stream, target, {"Host": parts.netloc, **further})
        finally:
            stream.close()

    async def _connect(self, url: SplitResult, proxy: Proxy | None) -> IOStream:
        host = url.hostname or ""
        port = url.port or _DEFAULT_PORTS[url.scheme]
        # A body that ends with its connection is bounded by the buffer alone.
        room = self._max_body + _MAX_HEADERS
        if proxy is None:
            tls = self._tls if url.scheme == "https" else None
            return await self._tcp.connect(host, port, ssl_options=tls, max_buffer_size=room)
        stream = await self._tcp.connect(proxy.host, proxy.port, max_buffer_size=room)
        if url.scheme == "http":
            return stream
        try:
            await _open_tunnel(stream, host, port, proxy)
        except BaseException:
            stream.close()
            raise
        return await stream.start_tls(False, self._tls, server_hostname=host)

    async def _exchange(
        self, stream: IOStream, target: str, headers: Mapping[str, str]
    ) -> Response:
        limits = HTTP1ConnectionParameters(
            no_keep_alive=True,
            max_header_size=_MAX_HEADERS,
            max_body_size=self._max_body,
            decompress=False,
        )
        connection = HTTP1Connection(stream, is_client=True, params=limits)
        start_line = RequestStartLine("GET", target, "HTTP/1.1")
        await connection.write_headers(start_line, HTTPHeaders({**headers, **_HEADERS}))
        connection.finish()
        collected = _Collector()
        await connection.read_response(collected)
        if not collected.is_complete:
            raise RequestFailed(
                f"the response is malformed, or has more than {self._max_body} bytes"
            )
        return Response(collected.status, collected.headers, collected.body)


async def _open_tunnel(stream: IOStream, host: str, port: int, proxy: Proxy) -> None:
    """Open a tunnel through a proxy (RFC 9110 §9.3.6). Raises RequestFailed."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    lines += [f"{name}: {value}" for name, value in proxy.headers.items()]
    await stream.write("\r\n".join([*lines, "", ""]).encode())
    head = await stream.read_until(b"\r\n\r\n", max_bytes=_MAX_HEADERS)
    status = head.split(b" ", 2)[1:2]
    if not status or len(status[0]) != 3 or not status[0].startswith(b"2"):
        line = head.partition(b"\r\n")[0][:100].decode("latin-1")
        raise RequestFailed(f"the proxy {proxy.host}:{proxy.port} refuses a tunnel: {line}")


def _bypasses(url: SplitResult, proxies: Mapping[str, str]) -> bool:
    """Return True if NO_PROXY names the host: by a name, a domain, an address or a network."""
    entries = proxies.get("no", "").lower().split(",")
    return any(_covers(entry.strip(), url) for entry in entries if entry.strip())


def _covers(entry: str, url: SplitResult) -> bool:
    host = url.hostname or ""
    if entry in ("*", url.netloc.lower()):
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        domain = entry.removeprefix("*").lstrip(".")
        return host == domain or host.endswith(f".{domain}")
