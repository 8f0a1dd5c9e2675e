"""The message that the service prints once it is ready."""

import os
import shlex
import sys
from logging import getLogger
from pathlib import Path

from tornado_members import __version__
from tornado_members.auth.own_issuer import OwnIssuer
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.settings import Settings, SettingsSource
from tornado_members.telemetry.logs import fields, writes_json

log = getLogger(__name__)

_CHECKOUT = Path(__file__).parent.parent.parent


def print_banner(
    settings: Settings, source: SettingsSource, url: str, admin_url: str, private: PrivateServers
) -> None:
    """Report the addresses: as one record in a JSON log, else as text with first requests."""
    if writes_json():
        message = f"The members service listens on {url} (health, metrics: {admin_url})"
        log.info("%s", message, extra=fields(url=url, admin_url=admin_url, version=__version__))
    else:
        print(_banner(settings, source, url, admin_url, private), flush=True)


def _banner(
    settings: Settings, source: SettingsSource, url: str, admin_url: str, private: PrivateServers
) -> str:
    lines = [
        f"The members service listens on {url}",
        f"  health, metrics    {admin_url}/readyz, {admin_url}/metrics",
    ]
    if private.ports.mongodb:
        lines.append(f"  private MongoDB    127.0.0.1:{private.ports.mongodb}")
    if private.ports.memcached:
        lines.append(f"  private Memcached  127.0.0.1:{private.ports.memcached}")
    own = OwnIssuer.from_settings(settings)
    if own and own.can_sign and url.startswith("http:"):
        lines += [
            "",
            "Try it in another shell:",
            f"  TOKEN=$({_token_command(source)} --rights 3)",
            f'  curl -i -H "Authorization: Bearer $TOKEN" -X PUT {url}/members \\',
            "       -H 'Content-Type: application/json' -d '{\"name\": \"Ada Lovelace\"}'",
            f'  curl -i -H "Authorization: Bearer $TOKEN" {url}/members/1',
        ]
    return "\n".join([*lines, "", "Ctrl-C stops the service and everything that it started."])


def _token_command(source: SettingsSource) -> str:
    """Return the shell command that prints a token with the same settings and data folder."""
    command = _program()
    if (data_dir := os.environ.get("MEMBERS_DATA_DIR")) and not source.data_dir:
        command = f"MEMBERS_DATA_DIR={shlex.quote(data_dir)} {command}"
    if source.file and source.file != _CHECKOUT / "settings.yaml":  # the default of scripts/
        command += f" --config {shlex.quote(str(source.file))}"
    if source.data_dir:
        command += f" --data-dir {shlex.quote(str(source.data_dir))}"
    return command


def _program() -> str:
    """Return the token command: the installed one, or that of a checkout, like this service."""
    script = _CHECKOUT / "scripts" / "token"
    if Path(sys.argv[0]).name == "tornado-members":
        return "tornado-members token"
    if not script.exists():
        return f"{shlex.quote(sys.executable)} -m tornado_members token"
    near = os.path.relpath(script)
    return shlex.quote(near if not near.startswith("../..") else str(script))
