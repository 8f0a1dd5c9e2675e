"""The service of the console's tests: with users, a history and a status."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest
from argon2 import PasswordHasher
from tornado.httputil import HTTPServerConnectionDelegate

from tests.support.console import CHROMIUM, Console, open_console
from tests.support.tokens import AUDIENCE, ISSUER, public_jwk
from tests.support.wire import AnyServer
from tornado_members.admin.status import ProcessStatus
from tornado_members.admin.summary import summarize
from tornado_members.app import make_app
from tornado_members.auth import passwords
from tornado_members.auth.passwords import hash_password
from tornado_members.auth.signing import own_signing_key
from tornado_members.services import Services
from tornado_members.settings import Settings

PASSWORD = "correct horse"
OpenConsole = Callable[[], AbstractAsyncContextManager[Console]]


@pytest.fixture(scope="session")
def signing_keys() -> Iterator[Path]:
    """A key pair, made once because that is slow."""
    with tempfile.TemporaryDirectory(prefix="tornado-members-test-") as name:
        own_signing_key(Path(name, "jwks.json"))
        yield Path(name)


@pytest.fixture
def settings(
    settings: Settings,
    folder: Path,
    signing_keys: Path,
    admin: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
) -> Settings:
    admin[database_name]["audit"].delete_many({})
    shutil.copytree(signing_keys, folder / "keys")
    own = {"issuer": "us", "audience": "members", "jwks": {"file": folder / "keys" / "jwks.json"}}
    other = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": {"keys": [public_jwk("RS256")]}}
    return Settings.model_validate(
        {
            **settings.model_dump(),
            "auth": {"own_issuer": "us", "issuers": [own, other]},
            "audit": {"enabled": True},
            "console": {"title": "Tea & <b>Club</b>", "status": True},
        }
    )


@pytest.fixture
def app(
    services: Services,
    process_status: ProcessStatus,
    admin: pymongo.MongoClient[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> HTTPServerConnectionDelegate:
    """With one user, whose password is hashed quickly."""
    quick = partial(PasswordHasher, time_cost=1, memory_cost=1024, parallelism=1)
    monkeypatch.setattr(passwords, "PasswordHasher", quick)
    admin["test"]["users"].insert_one(
        {"username": "grace", "password_hash": hash_password(PASSWORD), "access_rights": 3}
    )
    return make_app(services, partial(summarize, process_status))


@pytest.fixture
def open_page_of_console(
    http_server: AnyServer,
    http_server_port: tuple[socket.socket, int],
    folder: Path,
) -> OpenConsole:
    """Opens the console in a browser."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("Chromium is missing; scripts/setup --browser installs it")
    return partial(open_console, http_server_port[1], folder)
