"""What is printed once the service serves."""

import os
import shlex
from logging import getLogger
from pathlib import Path

from tornado_members import __version__
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.settings import Settings
from tornado_members.settings_file import DEFAULT_FILE
from tornado_members.telemetry.logs import fields, writes_json

log = getLogger(__name__)


def greet(
    settings: Settings, config: Path, url: str, admin_url: str, private: PrivateServers
) -> None:
    """Say where it listens: a line among the others for machines, and more for people."""
    if writes_json():
        words = f"The members service listens on {url} (health, metrics: {admin_url})"
        log.info("%s", words, extra=fields(url=url, admin_url=admin_url, version=__version__))
    else:
        print(_welcome(settings, config, url, admin_url, private), flush=True)


def _welcome(
    settings: Settings, config: Path, url: str, admin_url: str, private: PrivateServers
) -> str:
    lines = [
        f"The members service listens on {url}",
        f"  health, metrics    {admin_url}/readyz, {admin_url}/metrics",
    ]
    if private.ports.mongodb:
        lines.append(f"  private MongoDB    127.0.0.1:{private.ports.mongodb}")
    if private.ports.memcached:
        lines.append(f"  private Memcached  127.0.0.1:{private.ports.memcached}")
    own_keys = settings.own_jwks_file()
    if own_keys and own_keys.with_name("signing.pem").exists() and url.startswith("http:"):
        lines += [
            "",
            "Try it in another shell:",
            f"  TOKEN=$({_token_command(config)} --rights 3)",
            f'  curl -i -H "Authorization: Bearer $TOKEN" -X PUT {url}/members \\',
            "       -H 'Content-Type: application/json' -d '{\"name\": \"Ada Lovelace\"}'",
            f'  curl -i -H "Authorization: Bearer $TOKEN" {url}/members/1',
        ]
    return "\n".join([*lines, "", "Ctrl-C stops it, and everything that it started."])


def _token_command(config: Path) -> str:
    """How scripts/token is called from here, with the same settings."""
    script = str(Path(__file__).parent.parent.parent / "scripts" / "token")
    near = os.path.relpath(script)
    command = shlex.quote(near if "/" in near and not near.startswith("../..") else script)
    if data_dir := os.environ.get("MEMBERS_DATA_DIR"):
        command = f"MEMBERS_DATA_DIR={shlex.quote(data_dir)} {command}"
    return command if config == DEFAULT_FILE else f"{command} --config {shlex.quote(str(config))}"
