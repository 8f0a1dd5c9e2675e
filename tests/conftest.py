"""The servers of the tests: real ones, on free ports, in a private folder, once per process."""

import asyncio
import gc
import os
import shutil
import signal
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import pymongo
import pytest
from pymongo import WriteConcern, settings_shared
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.ioloop import IOLoop

from tests.support import fork_server
from tests.support.api import Api, Fetching, PathClient
from tests.support.contract import Contract, contract_of
from tests.support.memcached import flush_cache, flush_memcached
from tests.support.namespace import forget_cache_processes, namespace_of
from tests.support.service import Command
from tests.support.sharding import RoutedCommands
from tests.support.shared_services import SharedServices
from tests.support.tokens import AUDIENCE, ISSUER, public_jwk
from tests.support.wire import AnyServer, address_of
from tornado_members.admin.status import ProcessStatus, open_process_status
from tornado_members.app import make_app, openapi_document
from tornado_members.embedded import private_servers
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import mongod_command
from tornado_members.model.fields import FieldTable
from tornado_members.services import Services, open_services
from tornado_members.serving.server import make_server
from tornado_members.settings import Settings
from tornado_members.storage import mongo as storage_mongo
from tornado_members.storage.mongo import Mongo, open_mongo

pytest_plugins = ["tests.support.forked_workers", "tests.support.slow_callbacks"]

# Hypothesis has no deadline here, and tries the same examples in every run.
hypothesis.settings.register_profile("suite", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("suite")

_DATA_BYTES = 4 * 2**30  # more than the data of all test processes that run side by side


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option for the HTTP server of all tests that do not name one."""
    parser.addoption("--transport", choices=["http1", "tornado"], default="http1")


def pytest_configure(config: pytest.Config) -> None:
    """Let a run clean up after SIGTERM, and ignore the settings in the environment."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Otherwise the first test that asks for the current event loop creates one and leaks it.
    asyncio.set_event_loop(None)
    # A shell that runs the tests in the background ignores SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for variable in [name for name in os.environ if name.startswith("MEMBERS_")]:
        del os.environ[variable]
    Command.transport = config.getoption("--transport")
    if config.getoption("--processes") and not config.option.collectonly:
        fork_server.start()  # its imports run beside the collection of the tests


def pytest_collection_finish() -> None:
    """Exclude the modules, which live to the end, from garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_stack_for_each_client() -> Iterator[None]:
    """Keep PyMongo from formatting the stack for each new client; that of a test is deep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_shared, "traceback", SimpleNamespace(format_stack=list))
        yield


@pytest.fixture(scope="session", autouse=True)
def routed_commands() -> Iterator[type[RoutedCommands]]:
    """Watch each command that a service in this process sends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage_mongo, "SendingListener", RoutedCommands)
        yield RoutedCommands


@pytest.fixture(autouse=True)
def routable_commands(routed_commands: type[RoutedCommands]) -> Iterator[None]:
    """Fail a test in which the service sends a command that a router of shards would refuse."""
    routed_commands.seen.clear()
    yield
    assert not routed_commands.refused(), "a router would refuse these commands"


def _data_folder() -> Path | None:
    """Return a folder in memory for MongoDB's data, if there is room; None for the usual one.

    Each acknowledged write waits for the disk, and each new index for two files.
    """
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > _DATA_BYTES
    return memory if has_room else None


@pytest.fixture(scope="session")
def servers() -> Iterator[PrivateServers]:
    folder = Path(tempfile.mkdtemp(prefix="tornado-members-tests-", dir=_data_folder()))

    def command_with_fail_points(data: Path, port: int) -> list[str]:
        """Enable failCommand, which makes mongod fail on request; leave out its diagnostics."""
        parameters = ("enableTestCommands=1", "diagnosticDataCollectionEnabled=false")
        return [
            *mongod_command(data, port),
            *(part for parameter in parameters for part in ("--setParameter", parameter)),
        ]

    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(private_servers, "mongod_command", command_with_fail_points)
            started = stack.enter_context(PrivateServers(folder, die_with_parent=True))
        assert started.ports.memcached, "the tests need Memcached"
        yield started


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder, removed after the test. pytest keeps tmp_path for three runs."""
    with tempfile.TemporaryDirectory(prefix="tornado-members-test-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def admin(servers: PrivateServers) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    """A MongoDB client separate from the service's, for operations that the service lacks."""
    with pymongo.MongoClient[dict[str, Any]](servers.mongodb_uri) as client:
        yield client


@pytest.fixture(scope="session")
def shared_services() -> Iterator[SharedServices]:
    with closing(SharedServices()) as shared:
        yield shared


@pytest.fixture(scope="session")
def _services_end_first(servers: PrivateServers, shared_services: SharedServices) -> Iterator[None]:
    """Close the services before the servers end, for which they would wait."""
    yield
    shared_services.close()


@pytest.fixture
def shared(
    request: pytest.FixtureRequest, shared_services: SharedServices
) -> SharedServices | None:
    """The services that this test shares; None for a test with services of its own, or none."""
    marks = {mark.name for mark in request.node.iter_markers()}
    if "shared_services" in marks and "own_services" not in marks:
        return shared_services
    shared_services.close()
    return None


@pytest.fixture
def io_loop(shared: SharedServices | None) -> Iterator[IOLoop]:
    """Replaces pytest-tornasync's fixture: tests that share services share their event loop."""
    loop = shared.loop if shared else IOLoop(make_current=False)
    asyncio.set_event_loop(None)  # Python 3.12 and later warn of a query if it was never set
    loop.make_current()
    yield loop
    loop.clear_current()
    if not shared:
        loop.close(all_fds=True)


@pytest.fixture
def database_name(
    servers: PrivateServers,
    admin: pymongo.MongoClient[dict[str, Any]],
    shared: SharedServices | None,
) -> str:
    """An empty database and an empty cache. Dropping it would take ten times as long."""
    # A majority acknowledges the last deletions, and so those before them.
    quick = admin.get_database("test", write_concern=WriteConcern(w=1))
    for collection in ("members", "counters", "users", "leader_locks", "cache_pending_flushes"):
        quick[collection].delete_many({})
    if not (shared and shared.are_open):  # which are such a process
        forget_cache_processes(admin["test"])
    flush_memcached(servers.cache_servers[0])
    return "test"


@pytest.fixture
def driver() -> str:
    """The MongoDB driver. Tests of both override this."""
    return "motor"


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> str:
    """The HTTP server. Tests of both override this."""
    return str(request.config.getoption("--transport"))


@cache
def _validated_settings(database: str, driver: str, transport: str) -> Settings:
    """Validate the settings once: that takes three milliseconds."""
    issuer = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": {"keys": [public_jwk(name) for name in ("RS256", "ES256", "EdDSA")]},
    }
    return Settings.model_validate(
        {
            "server": {"transport": transport},
            "mongodb": {"database": database, "driver": driver},
            # The loop of a test may block for a while; its node was never away.
            "cache": {"timeout_ms": 1000, "heartbeat_ms": 5000, "return_ms": 1},
            "auth": {"issuers": [issuer]},
        }
    )


@pytest.fixture
def settings(database_name: str, driver: str, transport: str, folder: Path) -> Settings:
    validated = _validated_settings(database_name, driver, transport)
    return validated.model_copy(update={"data_dir": folder})


@pytest.fixture
def cache_servers(servers: PrivateServers) -> tuple[str, ...]:
    return servers.cache_servers


@pytest.fixture
def mongo(
    io_loop: IOLoop, servers: PrivateServers, database_name: str, driver: Any
) -> Iterator[Mongo]:
    """A MongoDB client with the service's options."""

    async def opened() -> Mongo:
        return open_mongo(servers.mongodb_uri, database_name, driver, timeout=30)

    mongo = io_loop.run_sync(opened)
    yield mongo
    io_loop.run_sync(mongo.close)


@pytest.fixture
def collected(driver: Any) -> Iterator[None]:
    """Collect sockets that PyMongo's asynchronous client loses if it closes while it connects.

    Otherwise, the warning would fail the test that runs at the next garbage collection.
    """
    yield
    if driver == "pymongo":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def tail_changes() -> bool:
    """True if the service follows the change stream, which interferes with most tests."""
    return False


@pytest.fixture
def emptied_cache(
    cache_servers: tuple[str, ...], settings: Settings, admin: pymongo.MongoClient[dict[str, Any]]
) -> tuple[str, ...]:
    """The nodes, empty but for an epoch."""
    for address in cache_servers:
        with suppress(OSError):  # some tests stop a node on purpose
            namespace = namespace_of(admin[settings.mongodb.database])
            flush_cache(address, namespace, servers=cache_servers)
    return cache_servers


@pytest.fixture
def member_fields(settings: Settings) -> FieldTable:
    """The fields of members; a test may add some."""
    return settings.members.fields()


@pytest.fixture
def services(
    io_loop: IOLoop,
    settings: Settings,
    servers: PrivateServers,
    *,
    emptied_cache: tuple[str, ...],
    tail_changes: bool,
    member_fields: FieldTable,
    shared: SharedServices | None,
    _services_end_first: None,
) -> Iterator[Services]:
    opening = partial(
        open_services,
        settings,
        servers.mongodb_uri,
        emptied_cache,
        tail_changes=tail_changes,
        fields=member_fields,
    )
    if shared:
        # No service whose signing keys are elsewhere reads anything in its data folder. The HTTP
        # server is not part of the services.
        own = settings.model_dump(exclude={"data_dir": True, "server": {"transport"}})
        key = (own, emptied_cache, tail_changes, member_fields.digest)
        yield shared.get(key, opening)
        return

    async def enter() -> tuple[AsyncExitStack, Services]:
        stack = AsyncExitStack()
        return stack, await stack.enter_async_context(opening())

    stack, opened = io_loop.run_sync(enter)
    yield opened
    io_loop.run_sync(stack.aclose)


@pytest.fixture
def process_status(io_loop: IOLoop, services: Services) -> Iterator[ProcessStatus]:
    """The health and the metrics of the service under test."""

    async def enter() -> tuple[AsyncExitStack, ProcessStatus]:
        stack = AsyncExitStack()
        return stack, await stack.enter_async_context(open_process_status(services))

    stack, opened = io_loop.run_sync(enter)
    yield opened
    io_loop.run_sync(stack.aclose)


@pytest.fixture
def app(services: Services) -> HTTPServerConnectionDelegate:
    """The application that pytest-tornasync serves."""
    return make_app(services)


@pytest.fixture
def http_server(
    io_loop: IOLoop,
    app: HTTPServerConnectionDelegate,
    settings: Settings,
    http_server_port: tuple[socket.socket, int],
) -> Iterator[AnyServer]:
    """Replaces pytest-tornasync's fixture with the server that production uses."""

    async def start() -> AnyServer:
        server = make_server(
            app,
            settings.server.limits,
            transport=settings.server.transport,
            cors=settings.cors,
        )
        server.add_sockets([http_server_port[0]])
        return server

    server = io_loop.run_sync(start)
    yield server
    server.stop()
    io_loop.run_sync(server.close_all_connections)


@pytest.fixture
def http_server_client(http_server: AnyServer) -> Iterator[Fetching]:
    """Replaces pytest-tornasync's fixture, which requires a Tornado server."""
    host, port = address_of(http_server)
    with closing(PathClient(force_instance=True)) as client:
        client.base = f"http://{host}:{port}"
        yield client


@pytest.fixture
def contract(services: Services) -> Contract:
    """The service's description of its API."""
    return contract_of(openapi_document(services).plain)


@pytest.fixture
def api(http_server: AnyServer, http_server_client: Fetching, contract: Contract) -> Api:
    return Api(http_server_client, contract)
