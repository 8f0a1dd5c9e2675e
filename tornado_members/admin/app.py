"""The admin application and its routes.

It runs in the process that forks the workers, so that it answers while they are busy.
"""

from tornado.web import Application, RequestHandler

from tornado_members.admin.handlers import (
    AdminHandler,
    LivezHandler,
    MetricsHandler,
    ReadyzHandler,
    UnknownPathHandler,
)
from tornado_members.admin.status import ServiceStatus
from tornado_members.http.allowed_hosts import AllowedHosts

ADMIN_ROUTES: list[tuple[str, type[AdminHandler]]] = [
    (r"/livez", LivezHandler),
    (r"/readyz", ReadyzHandler),
    (r"/metrics", MetricsHandler),
]


def make_admin_app(status: ServiceStatus, hosts: AllowedHosts) -> Application:
    """Return the application that an HTTP server serves on the admin listener."""
    injected = {"status": status, "hosts": hosts}
    return Application(
        [(path, handler, injected) for path, handler in ADMIN_ROUTES],
        default_handler_class=UnknownPathHandler,
        default_handler_args=injected,
        log_function=_log_nothing,
    )


def _log_nothing(_handler: RequestHandler) -> None:
    """Write no access log: probes come every second."""
