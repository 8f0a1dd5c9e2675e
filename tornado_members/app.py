"""The composition root: everything is put together here, and all routes are on this one screen."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from pymongo.errors import PyMongoError
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.web import Application

from tornado_members.auth.keys import (
    FileKeys,
    FixedKeys,
    KeySource,
    KeysUnusable,
    parse_key_set,
)
from tornado_members.auth.signing import own_signing_key
from tornado_members.auth.tokens import TokenVerifier
from tornado_members.cache.invalidator import InvalidatorNumbers, invalidating
from tornado_members.cache.memcached import MemcachedNode
from tornado_members.cache.naive import NaiveCache
from tornado_members.directory import MemberDirectory
from tornado_members.errors import DependencyAway, OperatorError
from tornado_members.handlers.base import BodyTooLargeHandler, NotFoundHandler, Services
from tornado_members.handlers.body_limit import LimitedBodies
from tornado_members.handlers.members import MemberByNameHandler, MemberHandler, MembersHandler
from tornado_members.settings import Issuer, Settings
from tornado_members.storage.changes import MemberChanges
from tornado_members.storage.leader import LeaderLease
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import open_mongo, without_credentials
from tornado_members.telemetry import RequestLog

MAX_BODY = 1024 * 1024  # bytes
# What is over MAX_BODY is read and thrown away up to here, so that a client hears why.
MAX_DISCARDED = 16 * MAX_BODY


class MongoDBUnusable(OperatorError):
    """Nothing can be opened without it. The text says where it was looked for, and what it said."""


ROUTES = [
    (r"/members", MembersHandler),
    (r"/members/by-name/(.+)", MemberByNameHandler),
    (r"/members/([^/]+)", MemberHandler),
]


@asynccontextmanager
async def open_directory(
    settings: Settings,
    mongodb_uri: str,
    cache_servers: tuple[str, ...],
    invalidator: InvalidatorNumbers | None = None,
) -> AsyncIterator[MemberDirectory]:
    """The members, on clients made in the running event loop and closed at the end.

    Given its numbers, the invalidator runs as well, if there is a cache.

    Raises MongoDBUnusable, and SettingsError for a URI that is none.
    """
    async with AsyncExitStack() as stack:
        mongo = open_mongo(
            mongodb_uri,
            settings.mongodb.database,
            settings.mongodb.driver,
            settings.mongodb.timeout_ms / 1000,
        )
        stack.push_async_callback(mongo.close)
        store = MemberStore(mongo)
        where = f"MongoDB at {without_credentials(mongodb_uri)} (mongodb.uri)"
        try:
            await store.prepare()
        except DependencyAway as error:
            raise MongoDBUnusable(f"{where} does not answer") from error
        except PyMongoError as error:  # a wrong password, no permission, members of one name ...
            details = getattr(error, "details", None) or {}
            reason = details.get("codeName") or type(error).__name__
            raise MongoDBUnusable(f"{where} refuses: {reason}") from error
        timeout = settings.cache.timeout_ms / 1000
        nodes = [MemcachedNode(address, timeout=timeout) for address in cache_servers]
        cache = NaiveCache(
            nodes, ttl=settings.cache.ttl_seconds, namespace=settings.mongodb.database
        )
        stack.push_async_callback(cache.close)
        directory = MemberDirectory(store, cache)
        if invalidator is not None and cache_servers:
            changes, lease = MemberChanges(mongo), LeaderLease(mongo, "invalidator")
            running = invalidating(changes, lease, directory, invalidator)
            await stack.enter_async_context(running)
        yield directory


@asynccontextmanager
async def open_services(
    settings: Settings,
    mongodb_uri: str,
    cache_servers: tuple[str, ...],
    *,
    tail_changes: bool = True,
) -> AsyncIterator[Services]:
    """What the handlers stand on. Raises MongoDBUnusable, KeysUnusable, SettingsError."""
    keys = {issuer.issuer: _open_keys(issuer, settings) for issuer in settings.auth.issuers}
    invalidator = InvalidatorNumbers() if tail_changes else None
    async with open_directory(settings, mongodb_uri, cache_servers, invalidator) as directory:
        yield Services(directory, TokenVerifier(settings.auth, keys), RequestLog())


def _open_keys(issuer: Issuer, settings: Settings) -> KeySource:
    if issuer.jwks and issuer.jwks.keys is not None:
        return FixedKeys(parse_key_set(issuer.jwks.keys, f"the keys of {issuer.issuer}"))
    file = issuer.jwks.file if issuer.jwks else settings.own_jwks_file()
    if file is None:
        raise KeysUnusable(f"auth.issuers: {issuer.issuer} has no keys")
    if file == settings.own_jwks_file() and not file.exists():
        own_signing_key(file)
    return FileKeys(file)


def make_app(services: Services) -> HTTPServerConnectionDelegate:
    """The application that a Tornado HTTPServer serves."""
    injected = {"services": services}
    application = Application(
        [(path, handler, injected) for path, handler in ROUTES],
        default_handler_class=NotFoundHandler,
        default_handler_args=injected,
        log_function=services.requests.write,
    )
    refusal = Application(
        default_handler_class=BodyTooLargeHandler,
        default_handler_args={**injected, "limit": MAX_BODY},
        log_function=services.requests.write,
    )
    return LimitedBodies(application, refusal, limit=MAX_BODY, patience=MAX_DISCARDED)
