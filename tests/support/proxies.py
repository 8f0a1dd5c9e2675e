"""The reverse proxies of deploy/proxies, each with its file, in front of services on free ports."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.support.service import ROOT, Service
from tornado_members.embedded.programs import free_port, with_parent_death_signal

FILES: Final = ROOT / "deploy" / "proxies"
_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 10


@dataclass(frozen=True)
class Program:
    """A reverse proxy: its files, the first of which it is started with."""

    name: str
    files: Sequence[str]
    command: Callable[[Path], list[str]]  # after the program, for the first file

    def find(self) -> str | None:
        """Return its path; None if it is not installed."""
        folders = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/usr/local/bin"
        return shutil.which(self.name, path=folders)


PROGRAMS: Final = {
    program.name: program
    for program in (
        Program(
            "nginx",
            ["nginx.conf"],
            lambda file: [
                *("-p", str(file.parent), "-c", str(file), "-e", str(file.parent / "error.log")),
                *("-g", f"daemon off; pid {file.parent}/nginx.pid;"),
            ],
        ),
        Program("haproxy", ["haproxy.cfg"], lambda file: ["-db", "-f", str(file)]),
        Program(
            "envoy",
            ["envoy.yaml"],
            lambda file: ["-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"],
        ),
        Program(
            "caddy",
            ["Caddyfile"],
            lambda file: ["run", "--adapter", "caddyfile", "--config", str(file)],
        ),
        Program(
            "traefik",
            ["traefik.yaml", "traefik-routes.yaml"],
            lambda file: [f"--configFile={file}"],
        ),
    )
}

_ENVOY_COMPRESSOR: Final = """                http_filters:
                  - name: envoy.filters.http.compressor
                    typed_config:
                      "@type": type.googleapis.com/{filters}.compressor.v3.Compressor
                      response_direction_config:
                        common_config: {min_content_length: 1}
                        weaken_etag_on_compress: true
                      compressor_library:
                        name: gzip
                        typed_config:
                          "@type": type.googleapis.com/{libraries}.gzip.compressor.v3.Gzip
"""
# Replacements in the file of a proxy that make it compress even short responses.
COMPRESSING: Final[Mapping[str, Mapping[str, str]]] = {
    "nginx": {"access_log off;": "gzip on; gzip_types application/json; gzip_min_length 1;"},
    "haproxy": {
        "backend members\n": "backend members\n    compression algo gzip\n"
        "    compression type application/json\n"
    },
    "envoy": {
        "                http_filters:\n": _ENVOY_COMPRESSOR.replace(
            "{filters}", "envoy.extensions.filters.http"
        ).replace("{libraries}", "envoy.extensions.compression")
    },
    "caddy": {
        "\treverse_proxy": "\tencode gzip {\n\t\tminimum_length 1\n"
        "\t\tmatch header Content-Type *\n\t}\n\treverse_proxy"
    },
    "traefik": {
        "middlewares: [retry]": "middlewares: [compress, retry]",
        "  middlewares:\n": "  middlewares:\n    compress:\n"
        "      compress: {minResponseBodyBytes: 1}\n",
    },
}

# Replacements that make a proxy decode paths and resolve `..` in them.
NORMALIZING: Final[Mapping[str, Mapping[str, str]]] = {
    "nginx": {"proxy_pass http://members;": "proxy_pass http://members/;"},
    "haproxy": {
        "global\n": "global\n    expose-experimental-directives\n",
        "    default_backend members\n": "    http-request set-path %[path,url_dec]\n"
        "    http-request normalize-uri path-merge-slashes\n"
        "    http-request normalize-uri path-strip-dotdot\n"
        "    default_backend members\n",
    },
    "envoy": {
        "normalize_path: false": "merge_slashes: true\n                "
        "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD\n                "
        "normalize_path: true"
    },
}

# Replacements that make a proxy close connections to services after half a second without use.
IMPATIENT: Final[Mapping[str, Mapping[str, str]]] = {
    "nginx": {"keepalive_timeout 60s": "keepalive_timeout 500ms"},
    "haproxy": {"pool-purge-delay 60s": "pool-purge-delay 200ms"},  # half of them, each time
    "envoy": {"idle_timeout: 60s": "idle_timeout: 0.5s"},
    "caddy": {"keepalive 60s": "keepalive 500ms"},
    "traefik": {"idleConnTimeout: 60s": "idleConnTimeout: 500ms"},
}

# Replacements for services with TLS, besides the removal of each `#tls `.
_TLS: Final[Mapping[str, Mapping[str, str]]] = {
    "nginx": {"proxy_pass http:": "proxy_pass https:"},
    "haproxy": {},
    "envoy": {},
    "caddy": {"/readyz": "/api/openapi.json", "\t\thealth_port 8889\n": ""},
    "traefik": {"url: http:": "url: https:"},
}


def speaking_tls(program: Program, ca: Path) -> dict[str, str]:
    """Return the replacements for services that have a certificate of this authority."""
    return {"#tls ": "", "/etc/ssl/members-ca.pem": str(ca), **_TLS[program.name]}


class Proxy:
    """A running proxy."""

    def __init__(self, port: int, log: Path, pid: int) -> None:
        self.pid = pid
        self.address = ("127.0.0.1", port)
        self.address6 = ("::1", port)
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    def log(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-2000:]


@contextmanager
def proxying(
    program: Program,
    folder: Path,
    services: Sequence[Service],
    changes: Mapping[str, str] | None = None,
    probe: str = "/openapi.json",
) -> Iterator[Proxy]:
    """Run the proxy of deploy/proxies; `changes` are further replacements in its files."""
    path = program.find()
    assert path, f"{program.name} is not installed (scripts/setup --deploy)"
    port = free_port()
    replaced = {"8080": str(port), "/etc/traefik": str(folder)}
    for host, service in zip(("10.0.0.11", "10.0.0.12"), services, strict=True):
        api, admin = urlsplit(service.url), urlsplit(service.admin_url)
        replaced |= {host: str(api.hostname), "8888": str(api.port), "8889": str(admin.port)}
    for name in program.files:
        text = (FILES / name).read_text()
        for old, new in (changes or {}).items():
            text = text.replace(old, new)
        text = re.sub("|".join(replaced), lambda found: replaced[found[0]], text)
        (folder / name).write_text(_private(text, folder))
    log = folder / f"{program.name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            with_parent_death_signal([path, *program.command(folder / program.files[0])]),
            cwd=folder,
            env={"HOME": str(folder), "PATH": "/usr/sbin:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        proxy = Proxy(port, log, process.pid)
        _wait_until_it_serves(process, proxy, probe)
        yield proxy
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _private(text: str, folder: Path) -> str:
    """Keep nginx's temporary files in the test's folder; other files are returned unchanged."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    lines = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return text.replace("http {\n", f"http {{\n{lines}") if "\nhttp {\n" in text else text


def _wait_until_it_serves(process: "subprocess.Popen[bytes]", proxy: Proxy, probe: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    request = f"GET {probe} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    status = b""
    while not status.startswith(b"HTTP/1.1 200"):
        assert process.poll() is None, proxy.log()
        assert time.monotonic() < deadline, f"{status!r}: {proxy.log()}"
        time.sleep(0.05)
        try:
            with socket.create_connection(proxy.address, timeout=5) as connection:
                connection.sendall(request)
                status = connection.recv(64)
        except OSError as error:
            status = repr(error).encode()
