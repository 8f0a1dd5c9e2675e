"""The types from which the settings are built: paths, addresses, URLs, origins."""

import re
from contextvars import ContextVar
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tornado_members.errors import OperatorError

# Relative paths in the settings are relative to this folder while a settings file is loaded.
base_folder: ContextVar[Path] = ContextVar("base_folder")


class SettingsError(OperatorError):
    """Invalid settings. The message names each wrong key, its value and the values allowed."""


class Section(BaseModel):
    """A section of the settings. Unknown keys are errors, and a loaded section is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def values(text: str, *, see: str | None = None) -> dict[str, Any]:
    """Return a `json_schema_extra` with the allowed values, where the type does not give them.

    `see` is a link to a page below docs/, for the reference only.
    """
    return {"values": text} | link(see)


def link(see: str | None) -> dict[str, Any]:
    """Return a `json_schema_extra` with a link to a page below docs/, for the reference only."""
    return {"see": see} if see else {}


def as_tuple(value: Any) -> Any:
    """Return a string as a tuple of one, and any other value unchanged."""
    return (value,) if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    if path == Path() or "\0" in str(path):
        raise ValueError("should be the path of a file or folder")
    try:
        return base_folder.get(Path.cwd()) / path.expanduser()
    except RuntimeError as error:  # the user of a ~user path does not exist
        raise ValueError(str(error)) from None


_HOST_PORT = re.compile(r"(?P<host>[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")


_HOST_NAME = re.compile(r"\*|[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")


def _host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("should be a host name in lower case, without a port, or *")
    return text


def _host_port(text: str) -> str:
    match = _HOST_PORT.fullmatch(text)
    if not match or not 0 < int(match["port"]) <= 65535:
        raise ValueError("should be host:port, such as 127.0.0.1:11211 or [::1]:11211")
    return text


def is_safe_url(text: str, *, allow_http: bool = False) -> bool:
    """Return True if keys may be fetched from a URL: over TLS, or from a loopback address.

    `allow_http` also permits plain HTTP to any other host.
    """
    try:
        url = urlsplit(text)
        host, _ = url.hostname or "", url.port
    except ValueError:
        return False
    if not host or "@" in url.netloc or url.fragment or not text.isprintable() or " " in text:
        return False
    return url.scheme == "https" or (url.scheme == "http" and (allow_http or _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _collector_url(text: str) -> str:
    try:
        url = urlsplit(text)
        is_valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or "@" in url.netloc or url.query or url.fragment or not text.isprintable():
        raise ValueError("should be http://host:port or https://host:port, without a password")
    return text


def _proxy(text: str) -> str:
    if text != "unix":
        try:
            ip_network(text)
        except ValueError:
            raise ValueError(
                "should be an address or a network, such as 10.0.0.5 or 10.0.0.0/8, or unix"
            ) from None
    return text


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

_BASE_PATH = re.compile(r"(?=.{2,200}$)(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")


def _origin(text: str) -> str:
    """Check a web origin (RFC 6454 §6.2): lower case, no path, no default port of its scheme.

    Browsers send this form, and no other form would ever equal it.
    """
    if text.startswith("http://") and text.endswith(":80"):
        raise ValueError("should be without :80, as browsers write it")
    if text.startswith("https://") and text.endswith(":443"):
        raise ValueError("should be without :443, as browsers write it")
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise ValueError("should be *, or an origin in lower case such as https://app.example.org")
    return text


FilePath = Annotated[Path, AfterValidator(_absolute)]


def _header_name(text: str) -> str:
    """Check the name of a header (RFC 9110 §5.1)."""
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError("should be the name of a header, such as X-Tenant")
    return text


def _base_path(text: str) -> str:
    """Check a path of which every segment means the same for all proxies (RFC 3986 §3.3)."""
    if text and not _BASE_PATH.fullmatch(text):
        raise ValueError(
            "should be empty, or begin with / and not end with it, such as /api; segments have "
            "letters, digits, and - . _ ~"
        )
    return text


BasePath = Annotated[str, AfterValidator(_base_path)]
Origin = Annotated[str, AfterValidator(_origin)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HostName = Annotated[str, AfterValidator(_host_name)]
HostPort = Annotated[str, AfterValidator(_host_port)]
Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    BeforeValidator(as_tuple),
    Field(min_length=1),
]
CollectorUrl = Annotated[str, AfterValidator(_collector_url)]
Proxy = Annotated[str, AfterValidator(_proxy)]
Port = Annotated[int, Field(ge=0, le=65535)]
