"""Settings that are read again while the service runs."""

from collections.abc import Callable
from logging import getLogger

from tornado_members.serving.tls import tls_context
from tornado_members.settings import Settings, SettingsError, SettingsSource

log = getLogger(__name__)

# The sockets are bound once, so a reload does not change their settings.
_BOUND = ("host", "port", "unix_socket", "unix_socket_mode")
# Private servers are started once.
_PRIVATE: dict[str, Callable[[Settings], bool]] = {
    "mongodb.uri": lambda settings: settings.mongodb.embedded,
    "cache.servers": lambda settings: settings.cache.servers == "embedded",
}
# Processes that differ in these return stale members from the cache.
_OF_THE_CLUSTER = {
    "mongodb": ("database",),
    "cache": ("heartbeat_ms", "timeout_ms", "return_ms"),
}


def reload_settings(source: SettingsSource, old: Settings) -> Settings:
    """Return the current settings, as far as they can be applied without a restart.

    The URI of MongoDB may change, for example with a password or the hosts of the replica set. A
    worker then checks that it is still the same database (services.py).

    Raises SettingsError if they are not valid, or need a restart.
    """
    new = source.load()
    tls_context(new.server.tls)
    for key, is_private in _PRIVATE.items():
        if is_private(new) and not is_private(old):
            raise SettingsError(f"{key}: a change to embedded requires a restart")
        if is_private(new) and new.data_dir != old.data_dir:
            raise SettingsError("data_dir: a change requires a restart, with private servers")
    for section, names in _OF_THE_CLUSTER.items():
        for name in names:
            before, after = (getattr(getattr(each, section), name) for each in (old, new))
            if before != after:
                raise SettingsError(
                    f"{section}.{name}: cannot change from {before!r} to {after!r} while services "
                    "run. Stop all services of the cluster, then start them."
                )
    kept = {key: getattr(old.server, key) for key in _BOUND}
    for key, value in kept.items():
        if getattr(new.server, key) != value:
            log.warning("server.%s: a change requires a restart; the old value is kept", key)
    if new.admin != old.admin:
        log.warning("admin: a change requires a restart; the old values are kept")
    return new.model_copy(update={"server": new.server.model_copy(update=kept)})
