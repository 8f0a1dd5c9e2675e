"""Print the changes of members as they happen: as text on a terminal, and as NDJSON elsewhere."""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.auth.signing import own_signing_key
from tornado_members.commands.options import PROGRAM
from tornado_members.errors import OperatorError
from tornado_members.settings import Settings

_TOKEN_SECONDS = 900
_SILENT_SECONDS = 40  # longer than the time between two comments
_PAUSE_SECONDS = 1.0
_RETRIED = frozenset({429, 500, 502, 503, 504})


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--url", help="address of the service, instead of the one that the settings contain"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="file with a token, instead of tokens of this service's own issuer",
    )
    parser.add_argument("--after", metavar="CURSOR", help="resume after the event with this id")
    parser.add_argument(
        "--member", metavar="ID", action="append", help="only this member; may be repeated"
    )


def run(arguments: Namespace) -> int:
    """Print events until interrupted. Raises OperatorError if the service refuses the request."""
    settings = arguments.source.load()
    show = _show_text if sys.stdout.isatty() else _show_line
    watcher = Watcher(
        (arguments.url or service_url(settings)).rstrip("/"),
        _token_source(settings, arguments.token_file),
        show,
        cursor=arguments.after,
        members=arguments.member or [],
    )
    try:
        watcher.watch()
    except BrokenPipeError:  # `tornado-members watch | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def service_url(settings: Settings) -> str:
    """Return the address of the service of these settings. Raises OperatorError."""
    server = settings.server
    if server.unix_socket is not None or not server.port:
        raise OperatorError("the settings contain no fixed port to connect to; add --url URL")
    scheme = "https" if server.tls.certificate else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104  # not bound
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{server.port}{server.base_path}"


def _token_source(settings: Settings, file: Path | None) -> Callable[[], str]:
    """Return a source of tokens: a file, or this service's own issuer. Raises OperatorError."""
    if file is not None:
        return lambda: _read_token(file)
    own = OwnIssuer.from_settings(settings)
    if own is None or own.jwks_file is None or not own.can_sign:
        raise OperatorError("this service issues no tokens itself; add --token-file FILE")
    issuer, key = own, own_signing_key(own.jwks_file)
    seconds = min(_TOKEN_SECONDS, issuer.max_lifetime)
    return lambda: key.sign(issuer.claims("watch", seconds, scope="members:read"))


def _read_token(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a token"
        raise OperatorError(f"--token-file: {file}: {reason}") from None


class Watcher:
    """Follows the feed, and resumes it when a stream ends."""

    def __init__(
        self,
        url: str,
        make_token: Callable[[], str],
        show: Callable[[dict[str, Any]], None],
        *,
        cursor: str | None,
        members: list[str],
    ) -> None:
        """`show` prints one event; `cursor` is where to begin."""
        self._url = f"{url}/members/changes"
        self._make_token = make_token
        self._show = show
        self._cursor = cursor
        self._members = members

    def watch(self) -> None:
        """Show events endlessly. Raises OperatorError if the service refuses the request."""
        while True:
            try:
                self._follow()
            except urllib.error.HTTPError as error:
                if error.code not in _RETRIED:
                    raise OperatorError(_detail(error)) from None
                _report(f"{_detail(error)} Retrying.")
            except BrokenPipeError:
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                _report(f"disconnected from {self._url} ({str(error) or type(error).__name__})")
            time.sleep(_PAUSE_SECONDS)

    def _follow(self) -> None:
        query = {"after": self._cursor} if self._cursor else {}
        if self._members:
            query["memberId"] = ",".join(self._members)
        request = urllib.request.Request(  # noqa: S310  # the operator chose the address
            f"{self._url}?{urlencode(query)}" if query else self._url,
            headers={
                "Authorization": f"Bearer {self._make_token()}",
                "Accept": "application/x-ndjson",
                "User-Agent": PROGRAM,
            },
        )
        with urllib.request.urlopen(request, timeout=_SILENT_SECONDS) as lines:  # noqa: S310  # see above
            for line in lines:
                if line.strip():
                    event = json.loads(line)
                    self._cursor = event["id"]
                    if event["event"] not in ("expired", "lagging"):
                        self._show(event)


def _show_line(event: dict[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False, separators=(",", ":")), flush=True)


def _show_text(event: dict[str, Any]) -> None:
    """Print an event as text. The fields of a member never contain control characters."""
    now, data = time.strftime("%H:%M:%S"), event["data"]
    if event["event"] == "ready":
        print(f"{now}  watching; cursor {event['id']}", flush=True)
        return
    member = data["member"] or {}
    fields = [f"{name}={value!r}" for name, value in member.items() if name != "memberId" and value]
    version = "" if data["version"] is None else f" version {data['version']}"
    text = f"{event['event']:8}{data['memberId']:>8}{version}  {', '.join(fields)}"
    print(f"{now}  {text.rstrip()}", flush=True)


def _detail(error: urllib.error.HTTPError) -> str:
    with error:
        body = error.read(65536)
    try:
        return f"{error.code}: {json.loads(body)['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{error.code}: {error.reason}"


def _report(message: str) -> None:
    print(f"watch: {message}", file=sys.stderr, flush=True)
