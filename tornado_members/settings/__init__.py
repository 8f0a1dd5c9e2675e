"""The settings: their schema, a module per group of sections, and how they are loaded.

`docs/settings.md` and `settings.yaml` are generated from the schema; see CONTRIBUTING.md.
"""

from tornado_members.settings.auth import (
    Auth,
    KeyFetching,
    Login,
)
from tornado_members.settings.issuers import Issuer, Jwks
from tornado_members.settings.loading import SettingsSource, load_settings
from tornado_members.settings.permissions import (
    OWN_PERMISSIONS,
    IssuerPermissions,
    Permission,
    Permissions,
)
from tornado_members.settings.schema import (
    Audit,
    Console,
    Cors,
    Log,
    Members,
    RateLimit,
    Settings,
    Telemetry,
)
from tornado_members.settings.server import Admin, Limits, Server, Tls
from tornado_members.settings.stores import Cache, MongoDB
from tornado_members.settings.types import SettingsError, is_safe_url

__all__ = [
    "OWN_PERMISSIONS",
    "Admin",
    "Audit",
    "Auth",
    "Cache",
    "Console",
    "Cors",
    "Issuer",
    "IssuerPermissions",
    "Jwks",
    "KeyFetching",
    "Limits",
    "Log",
    "Login",
    "Members",
    "MongoDB",
    "Permission",
    "Permissions",
    "RateLimit",
    "Server",
    "Settings",
    "SettingsError",
    "SettingsSource",
    "Telemetry",
    "Tls",
    "is_safe_url",
    "load_settings",
]
