"""All routes of the service, and the application that serves them."""

import json
from functools import cache, partial
from typing import Any

from tornado.httputil import HTTPServerConnectionDelegate

from tornado_members.errors import PreconditionRequired, Problem, TooManyRequests
from tornado_members.handlers.base import BaseHandler, NotFoundHandler
from tornado_members.handlers.batches import LookupHandler
from tornado_members.handlers.caller import CallerHandler
from tornado_members.handlers.changes import ChangesHandler
from tornado_members.handlers.console import ConsoleFileHandler, ConsoleHandler
from tornado_members.handlers.docs import DocsFileHandler, DocsHandler, OpenApiHandler
from tornado_members.handlers.history import HistoryHandler
from tornado_members.handlers.importing import ImportHandler
from tornado_members.handlers.login import JwksHandler, LoginHandler
from tornado_members.handlers.member import MemberHandler
from tornado_members.handlers.member_by_name import (
    MemberByNameHandler,
    MemberByNameInPathHandler,
)
from tornado_members.handlers.member_cache import MemberCacheApplication
from tornado_members.handlers.members import MembersHandler
from tornado_members.handlers.own_member import OwnMemberHandler
from tornado_members.handlers.shedding import SheddingApplication
from tornado_members.handlers.status import StatusHandler, StatusSource
from tornado_members.handlers.users import UserHandler, UsersHandler
from tornado_members.http.base_path import MountedApplication
from tornado_members.http.body_limit import AdmittingApplication
from tornado_members.http.proxied_etags import OriginalTagsApplication
from tornado_members.http.static_files import StaticContent
from tornado_members.model.fields import FieldTable
from tornado_members.openapi.document import Route, describe
from tornado_members.openapi.operation import JSON
from tornado_members.services import Services

IMPORT_PATH = "/members/import"

ROUTES = [
    ("/members", MembersHandler),
    (IMPORT_PATH, ImportHandler),
    ("/members/lookup", LookupHandler),
    ("/members/by-name", MemberByNameHandler),
    ("/members/by-name/{name}", MemberByNameInPathHandler),
    ("/members/changes", ChangesHandler),
    ("/members/me", OwnMemberHandler),
    ("/members/{memberId}", MemberHandler),
    ("/docs", DocsHandler),
    ("/docs/{file}", DocsFileHandler),
]
CALLER_ROUTE = ("/caller", CallerHandler)
# Only with audit.enabled.
HISTORY_ROUTE = ("/members/{memberId}/history", HistoryHandler)
# Only with login.enabled and a signing key.
LOGIN_ROUTE = ("/login", LoginHandler)
USER_ROUTES = [("/users", UsersHandler), ("/users/{username}", UserHandler)]
# Only with a signing key.
JWKS_ROUTE = ("/.well-known/jwks.json", JwksHandler)
# It describes all routes, itself included.
OPENAPI_ROUTE: tuple[str, type[BaseHandler]] = ("/openapi.json", OpenApiHandler)
# Only with console.enabled.
CONSOLE_ROUTE = ("/console", ConsoleHandler)
CONSOLE_FILE_ROUTE = ("/console/{asset}", ConsoleFileHandler)
# Only with console.status.
STATUS_ROUTE = ("/status", StatusHandler)
# Every route that a service may have.
ALL_ROUTES: list[tuple[str, type[BaseHandler]]] = [
    *(*ROUTES, CALLER_ROUTE),
    HISTORY_ROUTE,
    LOGIN_ROUTE,
    *(*USER_ROUTES, CONSOLE_ROUTE, CONSOLE_FILE_ROUTE, STATUS_ROUTE),
    JWKS_ROUTE,
    OPENAPI_ROUTE,
]


def _routes(
    services: Services, status: StatusSource | None = None
) -> list[tuple[str, type[BaseHandler], dict[str, Any]]]:
    """Return the routes of this service, with each handler's further arguments."""
    routes: list[tuple[str, type[BaseHandler], dict[str, Any]]] = [
        (path, handler, {}) for path, handler in [*ROUTES, CALLER_ROUTE]
    ]
    if services.directory.has_history:
        routes.append((*HISTORY_ROUTE, {}))
    if services.login:
        routes.append((*LOGIN_ROUTE, {"login": services.login}))
    if services.accounts:
        routes += [
            (path, handler, {"accounts": services.accounts}) for path, handler in USER_ROUTES
        ]
    if services.console.enabled:
        routes.append((*CONSOLE_ROUTE, {"title": services.console.title}))
        routes.append((*CONSOLE_FILE_ROUTE, {}))
    if services.console.status and status:
        routes.append((*STATUS_ROUTE, {"status": status}))
    if services.own_keys:
        routes.append((*JWKS_ROUTE, {"keys": services.own_keys}))
    return routes


def openapi_document(services: Services, status: StatusSource | None = None) -> StaticContent:
    """Return the OpenAPI description of this service."""
    routes = [(path, handler) for path, handler, _ in _routes(services, status)]
    never: set[type[Problem]] = set()
    if not services.rules.require_if_match:
        never.add(PreconditionRequired)
    if not services.rate_limit:
        never.add(TooManyRequests)
    described = (*routes, OPENAPI_ROUTE)
    return _describe(described, frozenset(never), services.fields, services.base_path)


@cache
def _describe(
    routes: tuple[Route, ...], never: frozenset[type[Problem]], fields: FieldTable, base_path: str
) -> StaticContent:
    """Describe the routes, once per process: it takes as long as opening services."""
    document = describe(routes, never=never, fields=fields, base_path=base_path)
    return StaticContent.of(json.dumps(document).encode(), JSON)


def make_app(
    services: Services, status: StatusSource | None = None
) -> HTTPServerConnectionDelegate:
    """Return the application that an HTTP server serves.

    `status` returns the status of the whole service, for console.status.
    """
    injected: dict[str, Any] = {"services": services}
    document = partial(openapi_document, services, status)  # a start does not wait for it
    application = AdmittingApplication(
        [
            (path, handler, {**injected, **more})
            for path, handler, more in [
                *_routes(services, status),
                (*OPENAPI_ROUTE, {"document": document}),
            ]
        ],
        services.admission,
        default_handler_class=NotFoundHandler,
        default_handler_args=injected,
        log_function=BaseHandler.log_request,
    )
    served: HTTPServerConnectionDelegate = MemberCacheApplication(
        SheddingApplication(application, services), services
    )
    if services.base_path:
        served = MountedApplication(served, services.base_path)
    return OriginalTagsApplication(served) if services.proxied_etags else served
