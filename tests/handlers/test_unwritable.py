"""A MongoDB that answers, and does not take what it is asked for: a 503, and never a 500."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest
from pymongo.errors import BulkWriteError
from tornado.httpclient import HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError

from tests.support.api import Api, parsed, problem
from tests.support.mongodb import Admin, failing, locked, read_only
from tornado_members.settings import Settings
from tornado_members.storage.outages import _TRANSIENT_CODES, is_outage

BODY = {"name": "Ada", "phone": "555-0100"}
# With these, the drivers try it again until time is up: that is tested as an outage is.
RETRIED = {6, 7, 89, 91, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13435, 13436}
CSV = {"Content-Type": "text/csv"}
PATCH = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def audit() -> bool:
    return False


@pytest.fixture
def settings(settings: Settings, audit: bool) -> Settings:
    changed = {
        "mongodb": {**settings.mongodb.model_dump(), "timeout_ms": 600},
        "members": {"transfer_retry_seconds": 0},
        "audit": {"enabled": audit},
    }
    return Settings.model_validate({**settings.model_dump(), **changed})


async def writes(api: Api) -> Sequence[HTTPResponse]:
    """Each kind of write, of a member that is there."""
    return await asyncio.gather(
        api("PUT", "/members", {"name": "Grace"}),
        api("PUT", "/members/1", BODY),
        api("PUT", "/members/by-name/Ada", {"phone": "555-0101"}),
        api("PATCH", "/members/1", {"phone": "555-0102"}, headers=PATCH),
        api("DELETE", "/members/1"),
    )


def check(answer: HTTPResponse, *codes: str) -> None:
    assert answer.code == 503, answer.body
    problem(answer, 503, parsed(answer)["code"])
    assert parsed(answer)["code"] in ("dependency-unavailable", *codes)
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("audit", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("unwritable", [read_only, locked])
@pytest.mark.usefixtures("collected")
async def test_writes_are_a_503_and_reads_go_on(
    api: Api,
    admin: Admin,
    unwritable: Callable[[Admin], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await api.create("Ada")
    with unwritable(admin):
        for answer in await writes(api):
            check(answer, "write-conflict")  # by another one, which waits
        for path in ("/members/1", "/members/by-name/Ada", "/members"):
            assert (await api("GET", path)).code == 200
        with pytest.raises(HTTPStreamClosedError):  # its last line says why; then it breaks off
            await api("POST", "/members/import", raw=b"name\nBob\n", headers=CSV)
    assert "response aborted: The database " in caplog.text
    async with asyncio.timeout(10):  # what waited behind the lock is done now, or given up
        while (await api("PUT", "/members/by-name/Grace", {})).code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while any(answer.code == 503 for answer in await writes(api)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_whatever_passes_is_a_503(api: Api, admin: Admin) -> None:
    """Each code that a server says it with, of a read and of a write."""
    await api.create("Ada")
    headers = {"Cache-Control": "no-cache"}
    for code in sorted(_TRANSIENT_CODES - RETRIED):
        with failing(admin, 2, failCommands=["find", "findAndModify"], errorCode=code):
            check(await api("GET", "/members/1", headers=headers))
            check(await api("PUT", "/members/1", BODY))
    assert (await api("PUT", "/members/1", BODY)).code == 200


async def test_what_does_not_pass_is_a_fault(api: Api, admin: Admin) -> None:
    """It is in the log, and the answer says nothing of it."""
    await api.create("Ada")
    with failing(admin, 1, failCommands=["find"], errorCode=2):
        problem(await api("GET", "/members/1"), 500, "internal-error")


def test_a_batch_of_which_one_document_could_not_be_written_now_is_an_outage() -> None:
    """Such as when the disk fills in the middle of it."""
    taken, full = {"index": 0, "code": 11000}, {"index": 1, "code": 14031}
    assert is_outage(BulkWriteError({"writeErrors": [taken, full]}))
    assert not is_outage(BulkWriteError({"writeErrors": [taken]}))
