"""Settings of the listeners: the API's and the admin listener's."""

from typing import Literal

from pydantic import Field, model_validator

from tornado_members.settings.types import (
    BasePath,
    FilePath,
    HostName,
    Port,
    Proxy,
    Section,
    link,
    values,
)


class Tls(Section):
    """TLS 1.2 or later on the API's socket. Set both files, or neither for plain HTTP."""

    certificate: FilePath | None = Field(
        None,
        description="PEM file with the certificate, followed by its intermediates. Read again on "
        "SIGHUP.",
        json_schema_extra=link("operations.md#tls"),
    )
    key: FilePath | None = Field(
        None, description="PEM file with the certificate's private key, not encrypted."
    )

    @model_validator(mode="after")
    def _both(self) -> "Tls":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("should have both certificate and key, or neither")
        return self


class Limits(Section):
    """Limits on the resources that clients take. Each worker applies them on its own."""

    connections: int = Field(
        4096,
        ge=1,
        description="Maximum number of open connections. The limit on open files, minus 256, caps "
        "it.",
        json_schema_extra=link("operations.md#limits"),
    )
    connections_per_address: int = Field(
        1024,
        ge=0,
        description="Maximum number of open connections from one address, or from one IPv6 network "
        "/64. Excess connections receive 503 and are closed. It does not apply to "
        "`server.trusted_proxies` and to Unix sockets. 0 is no limit.",
        json_schema_extra=link("operations.md#limits"),
    )
    requests: int = Field(
        1024,
        ge=1,
        description="Maximum number of concurrent requests. Excess requests receive 503.",
    )
    header_bytes: int = Field(
        16 * 1024,
        ge=256,
        le=1024 * 1024,
        description="Maximum size of a request's header section, in bytes. A larger one receives "
        "431.",
    )
    header_seconds: float = Field(
        10,
        gt=0,
        le=3600,
        description="Time from the first byte of a header section to its last, in seconds. Also "
        "the time for a TLS handshake.",
    )
    body_seconds: float = Field(
        10,
        gt=0,
        le=3600,
        description="Time to receive a body, in seconds. Each KiB received adds one second.",
    )
    body_buffer_bytes: int = Field(
        64 * 1024 * 1024,
        ge=2 * 1024 * 1024,
        description="Maximum memory for the bodies of all requests in progress, in bytes. Beyond "
        "it, the bodies that arrive most slowly receive 503.",
        json_schema_extra=link("operations.md#limits"),
    )
    idle_seconds: float = Field(
        75,
        gt=0,
        le=86400,
        description="Time that a connection may stay idle between requests, in seconds. Set it to "
        "more than the proxy in front of the service waits; many wait 60 seconds.",
        json_schema_extra=link("operations.md#behind-a-reverse-proxy"),
    )
    write_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="Time that a client may go without reading any of its response, in seconds. "
        "After that time, it must have read 1 KiB for each further second. Otherwise the "
        "connection is closed.",
    )
    response_buffer_bytes: int = Field(
        64 * 1024 * 1024,
        ge=2 * 1024 * 1024,
        description="Maximum memory for responses that clients have not read yet, in bytes. Beyond "
        "it, the connections that read most slowly are closed.",
        json_schema_extra=link("operations.md#limits"),
    )
    request_seconds: float = Field(
        10,
        gt=0,
        le=3600,
        description="Time from a complete request to the start of its response, in seconds. The "
        "client then receives 503.",
    )


class Server(Section):
    """The listener of the API."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(8888, description="TCP port to listen on. 0 picks a free port.")
    unix_socket: FilePath | None = Field(
        None, description="Path of a Unix socket to listen on, instead of host and port."
    )
    unix_socket_mode: str = Field(
        "0660",
        pattern="^0[0-7]{3}$",
        description="File mode of the Unix socket, which decides who may connect.",
        json_schema_extra=values('four octal digits in quotes, such as `"0660"`'),
    )
    base_path: BasePath = Field(
        "",
        description="Path below which the API is served, if a proxy forwards the whole path. "
        "Addresses in responses begin with it. The admin listener is not affected.",
        json_schema_extra=values(
            "empty, or a path without a slash at its end, such as `/api`",
            see="operations.md#behind-a-reverse-proxy",
        ),
    )
    tls: Tls = Tls()
    processes: int = Field(
        1,
        ge=0,
        description="Number of worker processes. 0 starts one per core that the service may use.",
        json_schema_extra=link("operations.md#processes"),
    )
    transport: Literal["http1", "tornado"] = Field(
        "http1",
        description="HTTP server. `http1` is the service's own, on llhttp and, where installed, "
        "uvloop. `tornado` is Tornado's `HTTPServer` on asyncio's event loop. Of `server.limits`, "
        "it enforces `requests`, `request_seconds`, `header_bytes` and `idle_seconds` only.",
        json_schema_extra=link("decisions/http1.md"),
    )
    unready_seconds: float = Field(
        0,
        ge=0,
        le=300,
        description="Time during a stop in which `/readyz` is 503 and requests are still accepted, "
        "in seconds. Set it to the time in which the load balancer detects the change.",
        json_schema_extra=link("operations.md#stopping"),
    )
    drain_seconds: float = Field(
        5,
        ge=0,
        le=300,
        description="Time during a stop in which requests in progress may complete, in seconds.",
        json_schema_extra=link("operations.md#stopping"),
    )
    trusted_proxies: tuple[Proxy, ...] = Field(
        (),
        description="Reverse proxies whose `X-Forwarded-For` is trusted. `unix` stands for every "
        "client of the Unix socket.",
        json_schema_extra=values(
            "list of addresses (`10.0.0.5`), networks (`10.0.0.0/8`) and `unix`",
            see="operations.md#behind-a-reverse-proxy",
        ),
    )
    proxied_etags: bool = Field(
        False,
        description="Accept an ETag in `If-Match` and `If-None-Match` as a compressing proxy has "
        'changed it: `W/"4"` and `"4-gzip"` for `"4"`.',
        json_schema_extra=link("operations.md#behind-a-reverse-proxy"),
    )
    limits: Limits = Limits()


class Admin(Section):
    """The listener of `/livez`, `/readyz` and `/metrics`. It requires no token."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Every client that reaches it may read it.",
        json_schema_extra=link("operations.md#health"),
    )
    port: Port = Field(
        8889,
        description="TCP port to listen on. 0 picks a free port, and so does 8889 if another "
        "process has it.",
    )
    hosts: tuple[HostName, ...] = Field(
        (),
        description="Host names by which clients may address the listener, besides IP addresses "
        "and `localhost`. `*` allows all names.",
        json_schema_extra=link("operations.md#health"),
    )
