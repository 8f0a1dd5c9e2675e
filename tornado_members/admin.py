"""The admin listener, for the one process there is, or for that which starts the workers."""

from tornado.web import Application, RequestHandler

from tornado_members.handlers.health import (
    AdminHandler,
    LivezHandler,
    MetricsHandler,
    ReadyzHandler,
)
from tornado_members.monitoring.board import Overview

ADMIN_ROUTES: list[tuple[str, type[AdminHandler]]] = [
    (r"/livez", LivezHandler),
    (r"/readyz", ReadyzHandler),
    (r"/metrics", MetricsHandler),
]


def make_admin_app(overview: Overview) -> Application:
    """What a Tornado HTTPServer serves there."""
    injected = {"overview": overview}
    return Application(
        [(path, handler, injected) for path, handler in ADMIN_ROUTES],
        default_handler_class=_Unknown,
        default_handler_args=injected,
        log_function=_say_nothing,
    )


class _Unknown(AdminHandler):
    def prepare(self) -> None:
        self.send_error(404)


def _say_nothing(_handler: RequestHandler) -> None:
    """A probe a second is no news."""
